//! Who led when, under which faults, and what came of the operations meanwhile.
//!
//! One row for each kind of fault, lanes for the holders of each election, a row for stale writes, and the rate of operations. Where
//! there are too many holders for a row each, they share lanes: what overlaps is then seen as a second lane.

use std::collections::{BTreeMap, BTreeSet};

use super::page::{Page, moment, span};
use super::plot::{self, Fault, Plot, WIDTH, colour, end_ns, faults, lanes};
use crate::checkers::{Belief, beliefs, first_sights};
use crate::history::{History, OnDisconnect, Type, f};
use crate::verdict::{Finding, Verdict};

/// More holders than this share lanes.
const ROWS: usize = 14;
/// Height of a lane.
const LANE: f64 = 20.0;
/// A long run gets a wider picture: pixels for each second, up to the widest.
const PER_SECOND: f64 = 16.0;
const WIDEST: f64 = 16_000.0;
/// By token, so that neighbours differ.
const HOLDERS: [&str; 6] = ["#3b82c4", "#2f9e6e", "#c08a1e", "#8b5cc7", "#2a9aa8", "#b5577e"];

pub(super) fn show(page: &mut Page, history: &History, findings: &[Finding]) {
    let faults = faults(history);
    let beliefs = beliefs(history);
    page.heading("Holders, tokens and faults");
    if beliefs.is_empty() && faults.is_empty() {
        page.dim("No election and no fault in this history.");
    } else {
        page.dim("Each bar is the time in which a process acted as the holder, under the token written on it (its counter); pale: it acted beside a newer one, which its fence must stop. Shaded: faults in force. Point at a bar for its times.");
    }
    let seconds = end_ns(history) as f64 / 1e9;
    page.picture(&draw(history, findings, &faults, &beliefs, WIDTH));
    let wide = (seconds * PER_SECOND).min(WIDEST);
    if wide > 1.5 * WIDTH {
        page.raw("<details><summary>The same, wider</summary>");
        page.picture(&draw(history, findings, &faults, &beliefs, wide));
        page.raw("</details>");
    }
    let kinds: BTreeSet<&str> = faults.iter().map(|fault| fault.kind.as_str()).collect();
    let mut entries: Vec<(&str, String)> = kinds.into_iter().map(|kind| (colour(kind), kind.to_owned())).collect();
    entries.extend([
        ("#2f9e6e", "operations that succeeded".to_owned()),
        ("#c9ced8", "refused or failed".to_owned()),
        ("#e0a100", "outcome unknown".to_owned()),
    ]);
    if findings.iter().any(|finding| finding.verdict == Verdict::Violation) {
        entries.push(("#c0271d", "where the counter-example is".to_owned()));
    }
    page.legend(entries);
}

/// When each token was seen first, by election.
type Sights<'a> = BTreeMap<&'a str, BTreeMap<u64, u64>>;

/// The rows of one election: its name, and for each belief its lane.
struct Rows<'a> {
    election: &'a str,
    beliefs: Vec<&'a Belief<'a>>,
    lane: Vec<usize>,
    names: Vec<String>,
}

fn rows<'a>(beliefs: &'a [Belief<'a>]) -> Vec<Rows<'a>> {
    let mut elections: BTreeMap<&str, Vec<&Belief<'_>>> = BTreeMap::new();
    for belief in beliefs {
        elections.entry(belief.election).or_default().push(belief);
    }
    let row = |(election, mut beliefs): (&'a str, Vec<&'a Belief<'a>>)| {
        beliefs.sort_by_key(|belief| belief.from_ns);
        let mut holders: Vec<&str> = Vec::new();
        for belief in &beliefs {
            if !holders.contains(&belief.process) {
                holders.push(belief.process);
            }
        }
        if holders.len() <= ROWS {
            let lane = beliefs
                .iter()
                .filter_map(|belief| holders.iter().position(|holder| *holder == belief.process))
                .collect();
            return Rows { election, beliefs, lane, names: holders.iter().map(|&holder| holder.to_owned()).collect() };
        }
        let stretches: Vec<(f64, f64)> =
            beliefs.iter().map(|belief| (belief.from_ns as f64, belief.until_ns as f64)).collect();
        let (lane, count) = lanes(&stretches);
        let names = (0..count).map(|at| match at {
            0 => format!("{} holders", holders.len()),
            1 => "at the same time".to_owned(),
            _ => String::new(),
        });
        Rows { election, beliefs, lane, names: names.collect() }
    };
    elections.into_iter().map(row).collect()
}

fn draw(history: &History, findings: &[Finding], faults: &[Fault], beliefs: &[Belief<'_>], width: f64) -> String {
    let end = end_ns(history);
    let rows = rows(beliefs);
    let kinds: Vec<&str> = {
        let mut kinds: Vec<&str> = Vec::new();
        for fault in faults {
            if !kinds.contains(&fault.kind.as_str()) {
                kinds.push(&fault.kind);
            }
        }
        kinds
    };
    let holders: f64 = rows.iter().map(|row| 18.0 + LANE * row.names.len() as f64).sum();
    let top = 8.0;
    let holders_top = top + 14.0 * kinds.len() as f64 + 6.0;
    let stale_top = holders_top + holders + 8.0;
    let rate_top = stale_top + 22.0;
    let bottom = rate_top + 74.0;
    let mut plot = Plot::new(width, bottom + 22.0, 0, end);
    plot.time_axis(top, bottom);
    plot.shade(faults, top, bottom);
    fault_rows(&mut plot, faults, &kinds, top, end);
    let mut sights = Sights::new();
    for sight in first_sights(history) {
        sights.entry(sight.election).or_default().insert(sight.token, sight.time_ns);
    }
    let mut y = holders_top;
    for row in &rows {
        holder_rows(&mut plot, history, row, &sights, y);
        y += 18.0 + LANE * row.names.len() as f64;
    }
    stale_row(&mut plot, history, stale_top);
    rate(&mut plot, history, rate_top, bottom);
    let found: Vec<Finding> =
        findings.iter().filter(|finding| finding.verdict == Verdict::Violation).cloned().collect();
    for ns in plot::marked(history, &found) {
        let x = plot.x(ns);
        plot.line(x, top, x, bottom, "stroke=\"#c0271d\" stroke-width=\"1.6\" stroke-dasharray=\"4 2\"");
    }
    plot.finish()
}

fn fault_rows(plot: &mut Plot, faults: &[Fault], kinds: &[&str], top: f64, end: u64) {
    for (at, kind) in kinds.iter().enumerate() {
        let y = top + 14.0 * at as f64;
        plot.name(y + 9.0, kind);
        for fault in faults.iter().filter(|fault| fault.kind == *kind) {
            let moment_only = plot::is_moment(kind);
            let until =
                fault.until_ns.filter(|_| !moment_only).unwrap_or(if moment_only { fault.from_ns } else { end });
            let (x, right) = (plot.x(fault.tried_ns), plot.x(until));
            let hint = format!(
                "{kind} {} ({}) at {}{}",
                fault.targets.join(", "),
                fault.role,
                moment(fault.tried_ns),
                if moment_only {
                    String::new()
                } else {
                    format!(" for {}", span(until.saturating_sub(fault.tried_ns)))
                }
            );
            let opacity = if fault.sure { "1" } else { ".4" };
            let style = format!("fill=\"{}\" fill-opacity=\"{opacity}\" rx=\"1\"", colour(kind));
            plot.rect(x, y, (right - x).max(3.0), 10.0, &style, &hint);
        }
    }
}

fn holder_rows(plot: &mut Plot, history: &History, row: &Rows<'_>, sights: &Sights<'_>, top: f64) {
    plot.text(
        plot::LEFT - 8.0,
        top + 12.0,
        "text-anchor=\"end\" font-weight=\"700\"",
        &format!("{}:", super::page::cut(row.election, 18)),
    );
    for (at, name) in row.names.iter().enumerate() {
        plot.name(top + 18.0 + LANE * at as f64 + 13.0, name);
    }
    for (belief, lane) in row.beliefs.iter().zip(&row.lane) {
        let y = top + 18.0 + LANE * *lane as f64 + 2.0;
        let (x, right) = (plot.x(belief.from_ns), plot.x(belief.until_ns));
        // Where a newer grant has been seen it acts beside the next holder: pale.
        let newer =
            sights.get(row.election).and_then(|sights| sights.range(belief.token + 1..).map(|(_, ns)| *ns).min());
        let passed = plot.x(newer.unwrap_or(u64::MAX)).clamp(x, right);
        let short = belief.token & 0xffff_ffff;
        let fill = HOLDERS[usize::try_from(short).unwrap_or_default() % HOLDERS.len()];
        let keeps = if belief.kind == Some(OnDisconnect::KeepUntilTtl) { ", keeps until its TTL" } else { "" };
        let hint = format!(
            "{} under token {} (counter {short}{keeps}): {} to {}",
            belief.process,
            belief.token,
            moment(belief.from_ns),
            moment(belief.until_ns)
        );
        plot.rect(x, y, (passed - x).max(1.5), LANE - 4.0, &format!("fill=\"{fill}\" rx=\"2\""), &hint);
        if right > passed {
            let style = format!("fill=\"{fill}\" fill-opacity=\".28\" rx=\"2\"");
            plot.rect(
                passed,
                y,
                right - passed,
                LANE - 4.0,
                &style,
                &format!("{hint}; from {} on beside a newer holder", moment(newer.unwrap_or_default())),
            );
        }
        let label = short.to_string();
        if passed - x > 8.0 + 6.5 * label.len() as f64 {
            plot.text(x + 4.0, y + 12.0, "style=\"fill:#fff\"", &label);
        }
    }
    // What a holder heard of its own leadership.
    if row.names.len() <= ROWS {
        for (mark, what) in [(f::SUSPECT, "#e0a100"), (f::LOST, "#c0271d")] {
            for (_, record) in history.seen(mark).filter(|(_, record)| record.election.as_deref() == Some(row.election))
            {
                let Some(lane) = row.names.iter().position(|name| *name == record.process) else { continue };
                let y = top + 18.0 + LANE * lane as f64;
                let hint =
                    format!("{mark} at {} ({})", moment(record.time_ns), record.error.as_deref().unwrap_or_default());
                plot.rect(plot.x(record.time_ns) - 1.0, y, 2.0, LANE, &format!("fill=\"{what}\""), &hint);
            }
        }
    }
}

/// Where stale writes and calls were refused; many in one pixel are one mark.
fn stale_row(plot: &mut Plot, history: &History, top: f64) {
    let mut pixels: BTreeMap<i64, usize> = BTreeMap::new();
    for op in history.ops().filter(|op| op.end.is_some_and(|end| end.error.as_deref() == Some("stale"))) {
        *pixels.entry((plot.x(op.invoke.time_ns) / 2.0) as i64).or_default() += 1;
    }
    plot.name(top + 11.0, "stale, refused");
    for (pixel, count) in pixels {
        let height = 3.0 + 9.0 * (count as f64).ln_1p().min(4.0) / 4.0;
        plot.rect(
            pixel as f64 * 2.0,
            top + 13.0 - height,
            1.6,
            height,
            "fill=\"#8a5a00\"",
            &format!("{count} refused"),
        );
    }
}

/// Operations a second, by outcome, stacked.
fn rate(plot: &mut Plot, history: &History, top: f64, bottom: f64) {
    let end = end_ns(history);
    let buckets = ((plot.width / 4.0) as usize).clamp(40, 1500).min((end / 20_000_000).max(20) as usize);
    let mut counts = vec![[0_u32; 3]; buckets];
    let bucket = |ns: u64| ((ns as f64 / end as f64 * buckets as f64) as usize).min(buckets - 1);
    for op in history.ops().filter(|op| !op.invoke.is_nemesis() && op.invoke.f != f::CAMPAIGN) {
        let at = bucket(op.end.unwrap_or(op.invoke).time_ns);
        let kind = match op.outcome() {
            Type::Ok => 0,
            Type::Fail => 1,
            Type::Invoke | Type::Info => 2,
        };
        counts[at][kind] += 1;
    }
    let highest = counts.iter().map(|count| count.iter().sum::<u32>()).max().unwrap_or(0).max(1);
    let per_second = f64::from(highest) * buckets as f64 / (end as f64 / 1e9);
    plot.name(top + 10.0, "operations/s");
    plot.text(
        plot::LEFT - 8.0,
        top + 24.0,
        "text-anchor=\"end\" class=\"dim small\"",
        &format!("up to {per_second:.0}"),
    );
    let wide = (plot.width - plot::LEFT - plot::RIGHT) / buckets as f64;
    for (at, count) in counts.iter().enumerate() {
        let mut y = bottom;
        for (kind, fill) in ["#2f9e6e", "#c9ced8", "#e0a100"].into_iter().enumerate() {
            let height = f64::from(count[kind]) / f64::from(highest) * (bottom - top - 2.0);
            if height > 0.0 {
                y -= height;
                plot.rect(plot::LEFT + at as f64 * wide, y, wide + 0.1, height, &format!("fill=\"{fill}\""), "");
            }
        }
    }
}

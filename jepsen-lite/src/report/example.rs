//! A counter-example: the sentence, a picture of the operations that it stands on with those around them, and their lines.

use std::collections::{BTreeMap, BTreeSet};

use super::page::{Page, cut, joined, moment};
use super::plot::{Plot, WIDTH, end_ns, faults};
use crate::history::{History, Op, Record, Type};
use crate::verdict::{Finding, Verdict};

/// Rows of the picture at most; those of the counter-example come first.
const ROWS: usize = 24;
/// Operations drawn at most.
const BARS: usize = 400;
/// Lines around each of the counter-example's, before and after, that have to do with it.
const AROUND: usize = 5;
/// Lines shown at most.
const LINES: usize = 90;

pub(super) fn show(page: &mut Page, history: &History, finding: &Finding) {
    let class = if finding.verdict == Verdict::Violation { "example" } else { "example unknown" };
    page.raw(&format!("<h2>What <code>{}</code> found</h2><div class=\"{class}\"><p>", finding.checker));
    page.text(&finding.detail);
    page.raw("</p></div>");
    let hits: BTreeSet<usize> = finding.lines.iter().copied().collect();
    let about = About::of(history, &hits);
    page.picture(&draw(history, &hits, &about));
    page.legend([
        ("#c0271d", "the operations of the counter-example".to_owned()),
        ("#2f9e6e", "others that succeeded".to_owned()),
        ("#c9ced8", "failed or refused".to_owned()),
        ("#e0a100", "outcome unknown: may take effect at any later time".to_owned()),
    ]);
    lines(page, history, &hits, &about);
}

/// What the counter-example has to do with.
struct About<'a> {
    processes: BTreeSet<&'a str>,
    keys: BTreeSet<&'a str>,
    elections: BTreeSet<&'a str>,
    sessions: BTreeSet<u64>,
    from_ns: u64,
    until_ns: u64,
}

impl<'a> About<'a> {
    fn of(history: &'a History, hits: &BTreeSet<usize>) -> About<'a> {
        let records: Vec<&Record> = hits.iter().map(|&line| &history.records()[line]).collect();
        let from = records.iter().map(|record| record.time_ns).min().unwrap_or_default();
        let until = records.iter().map(|record| record.time_ns).max().unwrap_or_default();
        // Some air on both sides.
        let air = ((until - from) / 6).max(20_000_000);
        About {
            processes: records.iter().map(|record| record.process.as_str()).collect(),
            keys: records.iter().filter_map(|record| record.key.as_deref()).collect(),
            elections: records.iter().filter_map(|record| record.election.as_deref()).collect(),
            sessions: records.iter().filter_map(|record| record.session).collect(),
            from_ns: from.saturating_sub(air),
            until_ns: (until + air).min(end_ns(history)),
        }
    }

    fn concerns(&self, record: &Record) -> bool {
        record.is_nemesis()
            || record.key.as_deref().is_some_and(|key| self.keys.contains(key))
            || (self.keys.is_empty()
                && record.election.as_deref().is_some_and(|election| self.elections.contains(election)))
            || record.session.is_some_and(|session| self.sessions.contains(&session))
            || (self.keys.is_empty() && self.elections.is_empty() && self.processes.contains(record.process.as_str()))
    }
}

/// What a row shows: an operation from its line to its completion, or a moment.
struct Bar<'a> {
    record: &'a Record,
    from_ns: u64,
    until_ns: u64,
    open: bool,
    outcome: Type,
    hit: bool,
    text: String,
}

fn bars<'a>(history: &'a History, hits: &BTreeSet<usize>, about: &About<'_>) -> BTreeMap<&'a str, Vec<Bar<'a>>> {
    let mut rows: BTreeMap<&str, Vec<Bar<'_>>> = BTreeMap::new();
    let is_hit = |op: &Op<'_>| op.lines().any(|line| hits.contains(&line));
    let ops = history.ops().filter(|op| !op.invoke.is_nemesis());
    let within = ops.filter(|op| {
        let end = op.end.map_or(u64::MAX, |end| end.time_ns);
        is_hit(op)
            || (op.invoke.time_ns <= about.until_ns
                && end >= about.from_ns
                && about.concerns(op.end.unwrap_or(op.invoke))
                && op.invoke.f != "campaign")
    });
    let mut all: Vec<Bar<'_>> = within
        .map(|op| Bar {
            record: op.invoke,
            from_ns: op.invoke.time_ns,
            until_ns: op.end.map_or(about.until_ns, |end| end.time_ns),
            open: op.outcome() == Type::Info,
            outcome: op.outcome(),
            hit: is_hit(&op),
            text: said(op.end.filter(|end| end.kind == Type::Ok).unwrap_or(op.invoke)),
        })
        .collect();
    for &line in hits.iter().filter(|&&line| history.records()[line].is_event()) {
        let record = &history.records()[line];
        all.push(Bar {
            record,
            from_ns: record.time_ns,
            until_ns: record.time_ns,
            open: false,
            outcome: Type::Ok,
            hit: true,
            text: said(record),
        });
    }
    all.sort_by_key(|bar| (!bar.hit, bar.from_ns));
    all.truncate(BARS);
    for bar in all {
        let known = rows.len() < ROWS || rows.contains_key(bar.record.process.as_str());
        if known {
            rows.entry(&bar.record.process).or_default().push(bar);
        }
    }
    rows
}

/// An operation in a few words.
pub(super) fn said(record: &Record) -> String {
    let mut words = vec![record.f.clone()];
    words.extend(record.key.clone());
    if !record.value.is_null() {
        words.push(match record.value.as_str() {
            Some(text) => text.to_owned(),
            None => record.value.to_string(),
        });
    } else if record.f == "read" && record.kind == Type::Ok {
        words.push("nothing".to_owned());
    }
    words.extend(record.token.map(|token| format!("t{}", token & 0xffff_ffff)));
    words.extend(record.seq.map(|seq| format!("@{seq}")));
    cut(&words.join(" "), 60)
}

fn draw(history: &History, hits: &BTreeSet<usize>, about: &About<'_>) -> String {
    const ROW: f64 = 26.0;
    let rows = bars(history, hits, about);
    // Rows in the order of what happened on them first, those of the counter-example on top.
    let mut order: Vec<(&str, Vec<Bar<'_>>)> = rows.into_iter().collect();
    order.sort_by_key(|(_, bars)| {
        let hit = bars.iter().filter(|bar| bar.hit).map(|bar| bar.from_ns).min();
        (hit.is_none(), hit.unwrap_or_else(|| bars.iter().map(|bar| bar.from_ns).min().unwrap_or_default()))
    });
    let (top, bottom) = (6.0, 6.0 + ROW * order.len().max(1) as f64);
    let mut plot = Plot::new(WIDTH, bottom + 22.0, about.from_ns, about.until_ns);
    plot.time_axis(top, bottom);
    plot.shade(&faults(history), top, bottom);
    for (at, (process, bars)) in order.iter().enumerate() {
        let y = top + ROW * at as f64;
        plot.name(y + 17.0, process);
        let mut labelled_to = 0.0;
        for bar in bars.iter().filter(|bar| !bar.hit).chain(bars.iter().filter(|bar| bar.hit)) {
            let (x, right) = (plot.x(bar.from_ns), plot.x(if bar.open { about.until_ns } else { bar.until_ns }));
            let width = (right - x).max(4.0);
            let fill = match (bar.hit, bar.outcome) {
                (true, _) => "#c0271d",
                (_, Type::Ok) => "#2f9e6e",
                (_, Type::Fail) => "#c9ced8",
                _ => "#e0a100",
            };
            let opacity = if bar.hit { "1" } else { ".55" };
            let hint = format!(
                "{}: {} from {} to {} ({:?})",
                bar.record.process,
                bar.text,
                moment(bar.from_ns),
                moment(bar.until_ns),
                bar.outcome
            );
            plot.rect(
                x,
                y + 5.0,
                width,
                ROW - 9.0,
                &format!("fill=\"{fill}\" fill-opacity=\"{opacity}\" rx=\"2\""),
                &hint,
            );
            let letters = 6.1 * bar.text.chars().count() as f64;
            if bar.hit {
                label(&mut plot, (x, right), y + 17.0, letters, &bar.text, &mut labelled_to);
            } else if letters + 6.0 < width {
                plot.text(x + 3.0, y + 17.0, "class=\"small\"", &bar.text);
            }
        }
    }
    plot.finish()
}

/// Writes what an operation of the counter-example was: on its bar if it fits, else beside it.
fn label(plot: &mut Plot, (x, right): (f64, f64), y: f64, letters: f64, text: &str, labelled_to: &mut f64) {
    let halo = "font-weight=\"700\" paint-order=\"stroke\" stroke=\"#fff\" stroke-width=\"3\"";
    if letters + 8.0 < right - x {
        plot.text(x + 4.0, y, "style=\"fill:#fff\" font-weight=\"700\"", text);
    } else if right.max(x + 4.0) + 4.0 + letters < plot.width && x >= *labelled_to {
        plot.text(right.max(x + 4.0) + 4.0, y, halo, text);
        *labelled_to = right + 4.0 + letters;
    } else if x - 4.0 - letters > super::plot::LEFT && x - 4.0 - letters >= *labelled_to {
        plot.text(x - 4.0, y, &format!("{halo} text-anchor=\"end\""), text);
        *labelled_to = right;
    }
}

/// The lines of the counter-example, with those before and after that have to do with it.
fn lines(page: &mut Page, history: &History, hits: &BTreeSet<usize>, about: &About<'_>) {
    let concerned: Vec<usize> = (0..history.records().len())
        .filter(|line| hits.contains(line) || about.concerns(&history.records()[*line]))
        .collect();
    let mut shown: BTreeSet<usize> = BTreeSet::new();
    for hit in hits {
        let Ok(at) = concerned.binary_search(hit) else { continue };
        shown.extend(&concerned[at.saturating_sub(AROUND)..(at + AROUND + 1).min(concerned.len())]);
    }
    page.raw("<details open><summary>The lines of the history</summary><table><tr><th class=\"n\">Line</th><th class=\"n\">Time</th><th>Process</th><th>Type</th><th>What</th><th class=\"n\">Token</th><th class=\"n\">seq</th><th>Error</th></tr>");
    for &line in shown.iter().take(LINES) {
        let record = &history.records()[line];
        page.raw(if hits.contains(&line) { "<tr class=\"hit\">" } else { "<tr>" });
        page.raw(&format!("<td class=\"n\">{}</td><td class=\"n\">{}</td><td>", line + 1, moment(record.time_ns)));
        page.text(&record.process);
        page.raw(&format!("</td><td>{}</td><td class=\"mono\">", format!("{:?}", record.kind).to_lowercase()));
        let value = if record.value.is_null() { String::new() } else { record.value.to_string() };
        page.text(&cut(&joined([record.f.as_str(), record.key.as_deref().unwrap_or_default(), &value], " "), 110));
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        page.raw(&format!(
            "</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>",
            number(record.token),
            number(record.seq)
        ));
        page.text(&cut(record.error.as_deref().unwrap_or_default(), 60));
        page.raw("</td></tr>");
    }
    page.raw("</table>");
    if shown.len() > LINES {
        page.dim(&format!("{} more lines have to do with it.", shown.len() - LINES));
    }
    page.raw("</details>");
}

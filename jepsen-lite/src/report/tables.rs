//! The verdict on top, and the tables: what was judged, what was asked for, what was done, which faults there were.

use std::collections::BTreeMap;

use super::latency::{is_timed, percentile};
use super::page::{Page, cut, moment, span};
use super::plot::{end_ns, faults as faults_of};
use crate::checkers::{self, RunInfo};
use crate::history::{History, Type, f};
use crate::verdict::{Finding, Verdict};

/// Notes shown at most.
const NOTES: usize = 100;

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Violation => "violation",
        Verdict::Unknown => "unknown",
        Verdict::Nothing => "nothing",
    }
}

/// The verdict, in a word and a sentence, and what was run.
pub(super) fn banner(page: &mut Page, history: &History, findings: &[Finding], info: &RunInfo) {
    let verdict = Verdict::of(findings);
    let name = if info.scenario.is_empty() { "A history" } else { &info.scenario };
    page.raw(&format!(
        "<div class=\"banner {}\"><b>{}</b> &nbsp; ",
        class(verdict),
        verdict.to_string().to_uppercase()
    ));
    page.text(name);
    page.raw("<p>");
    let of = |wanted: Verdict| findings.iter().filter(move |finding| finding.verdict == wanted);
    let said = match verdict {
        Verdict::Violation => of(Verdict::Violation)
            .map(|finding| format!("{}: {}", finding.checker, finding.detail))
            .collect::<Vec<_>>()
            .join(" · "),
        Verdict::Pass => {
            format!("{} checkers found nothing wrong, and all that was asked for happened.", of(Verdict::Pass).count())
        }
        _ => of(Verdict::Unknown)
            .map(|finding| format!("{}: {}", finding.checker, finding.detail))
            .collect::<Vec<_>>()
            .join(" · "),
    };
    page.text(&cut(&said, 600));
    page.raw("</p></div><dl class=\"facts\">");
    let operations = history.ops().filter(|op| !op.invoke.is_nemesis()).count();
    let tokens: std::collections::BTreeSet<u64> =
        checkers::first_sights(history).iter().map(|sight| sight.token).collect();
    let facts = [
        ("Seed", info.seed.to_string()),
        ("Faults for", format!("{} s", info.for_s)),
        ("Whole run", format!("{:.1} s", end_ns(history) as f64 / 1e9)),
        ("Target", info.target.clone()),
        ("Operations", operations.to_string()),
        ("Grants seen", tokens.len().to_string()),
        ("Faults in force", faults_of(history).iter().filter(|fault| fault.sure).count().to_string()),
        ("Palisade", info.palisade.clone()),
        ("Harness", cut(&info.commit, 12)),
        ("Started, UTC", utc(info.started_unix_ms)),
    ];
    for (what, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        page.raw("<div><dt>");
        page.text(what);
        page.raw("</dt><dd>");
        page.text(&value);
        page.raw("</dd></div>");
    }
    page.raw("</dl>");
}

/// A date for people, without a library: days since 1970 to year, month and day (the civil calendar).
fn utc(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    let (seconds, days) = (unix_ms / 1000 % 86_400, i64::try_from(unix_ms / 86_400_000).unwrap_or_default() + 719_468);
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// One row for each checker.
pub(super) fn findings(page: &mut Page, findings: &[Finding]) {
    page.heading("Verdicts");
    page.raw("<table><tr><th>Checker</th><th>Verdict</th><th>What was found</th></tr>");
    for finding in findings {
        let what = checkers::ALL.iter().find(|checker| checker.name == finding.checker).map(|checker| checker.what);
        page.raw("<tr><td><code title=\"");
        page.text(what.unwrap_or_default());
        page.raw(&format!(
            "\">{}</code></td><td><span class=\"tag {}\">{}</span></td><td>",
            finding.checker,
            class(finding.verdict),
            finding.verdict
        ));
        page.text(&finding.detail);
        page.raw("</td></tr>");
    }
    page.raw("</table>");
}

/// What the run asked for, and what there was of it.
pub(super) fn gates(page: &mut Page, history: &History, info: &RunInfo) {
    page.heading("Coverage");
    if info.gates.is_empty() {
        page.dim("The run asks for nothing in particular.");
        return;
    }
    page.raw("<table><tr><th>What must have happened</th><th class=\"n\">At least</th><th class=\"n\">There were</th><th></th></tr>");
    for gate in &info.gates {
        let (found, enough) = gate.judge(history);
        page.raw("<tr><td>");
        page.text(&gate.name);
        let each = if gate.after_each.is_some() { " each time" } else { "" };
        let (tag, word) = if enough { ("pass", "enough") } else { ("unknown", "missed") };
        page.raw(&format!("</td><td class=\"n\">{}{each}</td><td class=\"n\">{found}</td><td><span class=\"tag {tag}\">{word}</span></td></tr>", gate.at_least));
    }
    page.raw("</table>");
}

/// How operations ended, and how long those that succeeded took.
pub(super) fn operations(page: &mut Page, history: &History) {
    page.heading("Operations");
    let mut kinds: BTreeMap<&str, ([usize; 3], Vec<u64>)> = BTreeMap::new();
    for op in history.ops().filter(|op| !op.invoke.is_nemesis()) {
        let (outcomes, took) = kinds.entry(&op.invoke.f).or_default();
        outcomes[match op.outcome() {
            Type::Ok => 0,
            Type::Fail => 1,
            Type::Invoke | Type::Info => 2,
        }] += 1;
        if let Some(ok) = op.ok().filter(|_| is_timed(&op)) {
            took.push(ok.time_ns - op.invoke.time_ns);
        }
    }
    let rows = kinds.into_iter().map(|(kind, (outcomes, mut took))| {
        took.sort_unstable();
        let at = |of_hundred| if took.is_empty() { "–".to_owned() } else { span(percentile(&took, of_hundred)) };
        let mut row = vec![kind.to_owned()];
        row.extend(outcomes.map(|count| count.to_string()));
        row.extend([at(50), at(90), at(99), at(100)]);
        row
    });
    page.table(&["Operation", "#ok", "#fail", "#info", "#p50", "#p90", "#p99", "#Longest"], rows);
}

/// How often each fault was in force, and on whom.
pub(super) fn faults(page: &mut Page, history: &History) {
    let mut kinds: BTreeMap<(String, String), (usize, usize, u64)> = BTreeMap::new();
    for fault in faults_of(history) {
        let (times, unsure, longest) = kinds.entry((fault.kind.clone(), fault.role.clone())).or_default();
        *times += usize::from(fault.sure);
        *unsure += usize::from(!fault.sure);
        *longest = (*longest).max(fault.until_ns.map_or(0, |until| until.saturating_sub(fault.from_ns)));
    }
    page.heading("Faults");
    if kinds.is_empty() {
        page.dim("None.");
        return;
    }
    let rows = kinds.into_iter().map(|((kind, role), (times, unsure, longest))| {
        vec![kind, role, times.to_string(), unsure.to_string(), if longest > 0 { span(longest) } else { String::new() }]
    });
    page.table(&["Fault", "Aimed at", "#In force", "#Not sure", "#Longest"], rows);
}

/// What the harness said on the way.
pub(super) fn notes(page: &mut Page, history: &History) {
    let told: Vec<Vec<String>> = history
        .records()
        .iter()
        .filter(|record| {
            matches!(record.f.as_str(), f::NOTE | f::PHASE | f::TROUBLE | f::UNEXPECTED) && !record.is_nemesis()
        })
        .map(|record| {
            let value = record.value.as_str().map_or_else(|| record.value.to_string(), str::to_owned);
            let what = record.error.clone().unwrap_or(value);
            vec![moment(record.time_ns), record.f.clone(), record.node.clone().unwrap_or_default(), cut(&what, 200)]
        })
        .collect();
    if told.is_empty() {
        return;
    }
    page.heading("The harness");
    let more = told.len().saturating_sub(NOTES);
    page.table(&["#Time", "", "Process", ""], told.into_iter().take(NOTES));
    if more > 0 {
        page.dim(&format!("{more} more."));
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(1_000), "1970-01-01 00:00:01");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_764_421_587_000), "2025-11-29 13:06:27");
    }
}

//! Holders who keep their session until its TTL never believe at once: their own clock is their guard.
//!
//! A belief is taken as *short* as the history allows (HISTORY.md): from the line that told the holder of its grant to the first reason
//! to stop believing. Two of these that overlap on the harness's one clock, or a newer grant that anybody saw while an older holder
//! still believed, cannot be explained away. Holders who fence may overlap; how often they did is told, and is no violation.

use std::collections::BTreeMap;

use super::grants::{Grant, grants};
use crate::history::{History, OnDisconnect, Record, Type, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "belief";

/// One stretch of time in which a process acted as the holder.
#[derive(Clone, Debug)]
pub(crate) struct Belief<'a> {
    pub(crate) election: &'a str,
    pub(crate) process: &'a str,
    pub(crate) token: u64,
    pub(crate) kind: Option<OnDisconnect>,
    pub(crate) from_ns: u64,
    pub(crate) until_ns: u64,
    /// The line of its grant, and the one that gave it its last deadline or ended it.
    pub(crate) lines: [usize; 2],
    /// Whether it ever had a deadline: one without cannot be judged.
    pub(crate) judged: bool,
}

/// A belief that goes on.
struct Open<'a> {
    belief: Belief<'a>,
    session: Option<u64>,
    deadline_ns: Option<u64>,
}

impl<'a> Open<'a> {
    /// It stops at `now` at the latest.
    fn end(mut self, now: u64, line: usize) -> Belief<'a> {
        if self.deadline_ns.is_none_or(|deadline| now < deadline) {
            self.belief.lines[1] = line;
        }
        self.belief.until_ns = self.deadline_ns.map_or(now, |deadline| deadline.min(now)).max(self.belief.from_ns);
        self.belief
    }
}

/// All beliefs of a history, in the order of their ends.
pub(crate) fn beliefs(history: &History) -> Vec<Belief<'_>> {
    let mut open: BTreeMap<(&str, &str), Open<'_>> = BTreeMap::new();
    let mut done = Vec::new();
    for (line, record) in history.records().iter().enumerate() {
        let now = record.time_ns;
        let ended: Vec<(&str, &str)> = open.iter().filter(|(_, it)| ends(record, it)).map(|(who, _)| *who).collect();
        for who in ended {
            done.extend(open.remove(&who).map(|it| it.end(now, line)));
        }
        let Some(election) = record.election.as_deref().filter(|_| record.kind == Type::Ok) else { continue };
        let who = (election, record.process.as_str());
        match record.f.as_str() {
            f::CAMPAIGN | f::GRANT => {
                let Some(token) = record.token else { continue };
                done.extend(open.remove(&who).map(|it| it.end(now, line)));
                open.insert(who, begin(record, election, token, line));
            }
            // Whoever acts at two moments may have acted at any between: the belief goes on until the later one, whenever that is heard.
            f::ACT => {
                if let Some(it) = open.get_mut(&who).filter(|it| Some(it.belief.token) == record.token) {
                    it.deadline_ns = it.deadline_ns.max(record.deadline_ns);
                    (it.belief.lines[1], it.belief.judged) = (line, it.deadline_ns.is_some());
                }
            }
            f::CONFIRM | f::SUSPECT => {
                let Some(it) = open.get_mut(&who).filter(|it| Some(it.belief.token) == record.token) else { continue };
                let Some(deadline) = record.deadline_ns else { continue };
                if it.deadline_ns.is_some_and(|before| before < now) {
                    // The harness heard of it after the older deadline: what lies between is left out.
                    let session = it.session;
                    let again = Open { belief: it.belief.clone(), session, deadline_ns: Some(deadline) };
                    if let Some(before) = open.insert(who, again) {
                        done.push(before.end(now, line));
                    }
                    if let Some(it) = open.get_mut(&who) {
                        it.belief.from_ns = now;
                    }
                }
                if let Some(it) = open.get_mut(&who) {
                    (it.deadline_ns, it.belief.lines[1], it.belief.judged) = (Some(deadline), line, true);
                }
            }
            _ => {}
        }
    }
    let end = history.records().last().map_or(0, |last| last.time_ns);
    let last = history.records().len().saturating_sub(1);
    // What the run's end cut off goes on until its deadline: nobody said that it ended.
    done.extend(open.into_values().map(|it| {
        let until = it.deadline_ns.unwrap_or(end);
        it.end(until, last)
    }));
    done
}

fn begin<'a>(record: &'a Record, election: &'a str, token: u64, line: usize) -> Open<'a> {
    Open {
        belief: Belief {
            election,
            process: &record.process,
            token,
            kind: record.on_disconnect,
            from_ns: record.time_ns,
            until_ns: record.time_ns,
            lines: [line, line],
            judged: record.deadline_ns.is_some(),
        },
        session: record.session,
        deadline_ns: record.deadline_ns,
    }
}

/// Whether from this line on the holder believes no more.
fn ends(record: &Record, it: &Open<'_>) -> bool {
    let belief = &it.belief;
    if record.is_nemesis() {
        return matches!(record.f.as_str(), "kill" | "term")
            && record.phase() == Some("start")
            && record.targets().any(|target| target == belief.process);
    }
    let this = record.election.as_deref() == Some(belief.election) && record.token == Some(belief.token);
    match record.f.as_str() {
        f::LOST => this,
        f::RESIGN => this && record.kind == Type::Invoke,
        f::SESSION_CLOSE => record.session == it.session && it.session.is_some(),
        f::SESSION_ENDED => record.session == it.session && it.session.is_some() && record.process == belief.process,
        _ => false,
    }
}

pub(super) fn check(history: &History) -> Finding {
    let beliefs = beliefs(history);
    let kept: Vec<&Belief<'_>> =
        beliefs.iter().filter(|belief| belief.kind == Some(OnDisconnect::KeepUntilTtl) && belief.judged).collect();
    let overlaps = fencing_overlaps(&beliefs);
    if kept.is_empty() {
        return Finding::nothing(
            NAME,
            format!("no holder that keeps until its TTL ({overlaps} overlaps of others, who fence)"),
        );
    }
    // The first sight of each grant, by time.
    let mut sights: BTreeMap<(&str, u64), Grant<'_>> = BTreeMap::new();
    for grant in grants(history) {
        sights.entry((grant.election, grant.token)).or_insert(grant);
    }
    let mut by_time: Vec<&Grant<'_>> = sights.values().collect();
    by_time.sort_by_key(|grant| grant.line);
    for belief in &kept {
        let time = |line: usize| history.records()[line].time_ns;
        let start = by_time.partition_point(|grant| time(grant.line) < belief.from_ns);
        let during = by_time[start..].iter().take_while(|grant| time(grant.line) < belief.until_ns);
        if let Some(newer) =
            during.into_iter().find(|grant| grant.election == belief.election && grant.token > belief.token)
        {
            let detail = format!(
                "{} believed that it holds {} with token {} until {} ns, and {newer} was seen at {} ns",
                belief.process,
                belief.election,
                belief.token,
                belief.until_ns,
                time(newer.line)
            );
            return Finding::violation(NAME, detail, belief.lines.into_iter().chain([newer.line]));
        }
        // The newer grant may have been told before the older holder's belief began: told late, and taken for good.
        let newest = sights.range((belief.election, belief.token + 1)..=(belief.election, u64::MAX));
        let told = newest.map(|(_, grant)| grant).find(|grant| time(grant.line) < belief.from_ns);
        if let Some(newer) = told.filter(|_| belief.until_ns > belief.from_ns) {
            let detail =
                format!("{} began to believe in token {} after {newer} had been seen", belief.process, belief.token);
            return Finding::violation(NAME, detail, belief.lines.into_iter().chain([newer.line]));
        }
    }
    let judged = kept.len();
    Finding::pass(
        NAME,
        format!("{judged} beliefs on one clock, none overlaps ({overlaps} overlaps of others, who fence)"),
    )
}

/// How often two holders who fence believed at once. Expected under pauses: it shows that their fences were needed.
fn fencing_overlaps(beliefs: &[Belief<'_>]) -> usize {
    let mut by_start: Vec<&Belief<'_>> =
        beliefs.iter().filter(|belief| belief.kind == Some(OnDisconnect::ReleaseAfter)).collect();
    by_start.sort_by_key(|belief| belief.from_ns);
    let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut overlaps = 0;
    for belief in by_start {
        let until = latest.entry(belief.election).or_default();
        overlaps += usize::from(belief.from_ns < *until);
        *until = (*until).max(belief.until_ns);
    }
    overlaps
}

#[cfg(test)]
mod tests {
    use super::super::testing::verdicts;

    #[test]
    fn histories_by_hand() {
        verdicts(super::NAME, super::check);
    }
}

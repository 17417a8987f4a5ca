//! Every sight of a grant: by the candidate, by an observer, by whoever asked who leads.

use std::fmt;

use crate::history::{History, Record, Type, f};

/// Somebody saw that a candidate holds an election under a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant<'a> {
    pub(super) election: &'a str,
    pub(super) candidate: &'a str,
    pub(super) token: u64,
    /// Of the command that granted it, where the sight tells.
    pub(super) seq: Option<u64>,
    /// Who saw it.
    pub(super) by: &'a str,
    /// Index into the history.
    pub(super) line: usize,
}

impl fmt::Display for Grant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Grant { election, candidate, token, by, .. } = self;
        write!(f, "{candidate} holding {election} with token {token}")?;
        if let Some(seq) = self.seq {
            write!(f, " since seq {seq}")?;
        }
        write!(f, " (seen by {by})")
    }
}

/// All sights, in the order of the lines.
pub(super) fn grants(history: &History) -> impl Iterator<Item = Grant<'_>> {
    let records = history.records().iter().enumerate();
    records.filter(|(_, record)| record.kind == Type::Ok && !record.is_nemesis()).filter_map(|(line, record)| {
        let (candidate, seq) = match record.f.as_str() {
            f::CAMPAIGN | f::GRANT => (record.value.as_str()?, record.seq),
            f::OBSERVE => match record.value.get("event")?.as_str()? {
                "elected" | "state" => (record.value.get("candidate")?.as_str()?, record.seq),
                _ => return None,
            },
            // Its seq is that of the question, not of the grant.
            f::LEADER => (record.value.as_str()?, None),
            _ => return None,
        };
        let Record { process, .. } = record;
        Some(Grant { election: record.election.as_deref()?, candidate, token: record.token?, seq, by: process, line })
    })
}

/// When a grant was seen first.
pub(crate) struct FirstSight<'a> {
    pub(crate) election: &'a str,
    pub(crate) token: u64,
    pub(crate) time_ns: u64,
}

/// Each grant once, in the order in which they were seen.
pub(crate) fn first_sights(history: &History) -> Vec<FirstSight<'_>> {
    let mut known = std::collections::HashSet::new();
    let first = grants(history).filter(|grant| known.insert((grant.election, grant.token)));
    first
        .map(|Grant { election, token, line, .. }| FirstSight {
            election,
            token,
            time_ns: history.records()[line].time_ns,
        })
        .collect()
}

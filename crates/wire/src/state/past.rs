//! The past of elections in snapshots: who led, and what observers were told.

use std::sync::Arc;

use palisade_coord_core::history::{Reign, Told};
use palisade_coord_core::ledger::Page;
use palisade_coord_core::{EndReason, Event, Revision, Seq, SessionId};
use palisade_fence::Token;

use super::grant;
use crate::coord::v1::{HistoryRecord, ToldRecord, history_record, told_record};
use crate::{WireError, convert, log};

pub(super) fn to_reign(until: Seq, reign: &Reign) -> history_record::Reign {
    history_record::Reign {
        token: reign.token.get(),
        candidate_id: reign.candidate.clone(),
        session: reign.session.get(),
        since_seq: reign.since.get(),
        until_seq: until.get(),
        since_unix_ms: reign.since_unix_ms,
        until_unix_ms: reign.until_unix_ms,
        why: log::to_end_reason(reign.why).into(),
    }
}

/// Adds a page, or to the last one, if it continues that.
pub(super) fn add<T>(pages: &mut Vec<(String, Page<T>)>, (election, page): (String, Page<T>)) {
    match pages.last_mut().filter(|(last, _)| *last == election) {
        Some((_, last)) => last.records.extend(page.records),
        None => pages.push((election, page)),
    }
}

pub(super) fn from_history(record: HistoryRecord) -> Result<(String, Page<Reign>), WireError> {
    let reign = |it: history_record::Reign| -> Result<(Seq, Arc<Reign>), WireError> {
        let reign = Reign {
            token: log::token("reign.token", it.token)?,
            candidate: it.candidate_id,
            session: SessionId(it.session),
            since: Seq(it.since_seq),
            since_unix_ms: it.since_unix_ms,
            until_unix_ms: it.until_unix_ms,
            why: log::from_end_reason(it.why)?,
        };
        Ok((Seq(it.until_seq), Arc::new(reign)))
    };
    let records = record.reigns.into_iter().map(reign).collect::<Result<_, _>>()?;
    Ok((record.election, Page { complete_after: Seq(record.complete_after_seq), records }))
}

pub(super) fn from_told(record: ToldRecord) -> Result<(String, Page<Told>), WireError> {
    let ToldRecord { election, complete_after_seq, events } = record;
    let records = events.into_iter().map(|it| from_event(&election, it)).collect::<Result<_, _>>()?;
    Ok((election, Page { complete_after: Seq(complete_after_seq), records }))
}

pub(super) fn to_event(seq: Seq, told: &Told) -> told_record::Event {
    use told_record::event::Kind;
    let kind = match &told.event {
        Event::Elected { grant, previous } => Kind::Elected(told_record::Elected {
            leader: Some(convert::grant(grant)),
            previous: previous.map(|(token, why)| to_ended(token, why)),
        }),
        Event::ValueChanged { grant } => Kind::ValueChanged(convert::grant(grant)),
        Event::Vacant { previous, why, .. } => Kind::Vacant(to_ended(*previous, *why)),
        other => panic!("no observer is told this: {other:?}"),
    };
    told_record::Event { seq: seq.get(), revision: told.revision.get(), kind: Some(kind) }
}

fn from_event(election: &str, record: told_record::Event) -> Result<(Seq, Arc<Told>), WireError> {
    use told_record::event::Kind;
    let event = match record.kind.ok_or_else(|| WireError::missing("told.kind"))? {
        Kind::Elected(it) => Event::Elected {
            grant: grant(it.leader.ok_or_else(|| WireError::missing("elected.leader"))?)?,
            previous: it.previous.map(from_ended).transpose()?,
        },
        Kind::ValueChanged(it) => Event::ValueChanged { grant: grant(it)? },
        Kind::Vacant(it) => {
            let (previous, why) = from_ended(it)?;
            Event::Vacant { election: election.to_owned(), previous, why }
        }
    };
    Ok((Seq(record.seq), Arc::new(Told { revision: Revision(record.revision), event })))
}

fn to_ended(token: Token, why: EndReason) -> told_record::Ended {
    told_record::Ended { token: token.get(), why: log::to_end_reason(why).into() }
}

fn from_ended(record: told_record::Ended) -> Result<(Token, EndReason), WireError> {
    Ok((log::token("ended.token", record.token)?, log::from_end_reason(record.why)?))
}

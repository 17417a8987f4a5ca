//! The one history that all nodes apply: what invariants need of it is here, not what it means.

use crate::facts::{Applied, Fact, Restoration};

/// Lets every command through once, in order, when the first node applies it. That all nodes apply the same is for another
/// invariant to say.
#[derive(Default)]
pub(super) struct History {
    last: u64,
}

impl History {
    /// The command that a fact tells of, if it is a new one.
    pub(super) fn next<'a>(&mut self, fact: &'a Fact) -> Option<&'a Applied> {
        match fact {
            Fact::Applied(applied) if applied.seq > self.last => {
                self.last = applied.seq;
                Some(applied)
            }
            _ => None,
        }
    }

    /// From now on the commands of the new cluster are new, also those that have the numbers of some that are undone.
    pub(super) fn restored(&mut self, restoration: &Restoration) {
        self.last = restoration.begins.seq;
    }
}

/// Hand-written history, for the tests of invariants.
#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use palisade_coord_core::keys::op::Put;
    use palisade_coord_core::{
        AttachGeneration, Command, EndReason, Event, Grant, KeyOp, KeyReply, OnDisconnect, Op, Outcome, Refusal, Reply,
        RequestId, Revision, Seq, Serial, SessionId,
    };
    use palisade_fence::{Fence, Token};

    use super::*;

    /// A command that node 1 applied.
    pub(in crate::invariants) fn applied(
        seq: u64,
        op: Op,
        reply: Result<Reply, Refusal>,
        events: Vec<Event>,
    ) -> Applied {
        let outcome = Outcome { seq: Seq(seq), revision: Revision(seq), reply, events };
        Applied { node: 1, seq, command: Command::new(0, op), outcome, digest: None }
    }

    pub(in crate::invariants) fn fact(applied: Applied) -> Fact {
        Fact::Applied(Arc::new(applied))
    }

    pub(in crate::invariants) fn opened(seq: u64, session: u64) -> Applied {
        let op = Op::OpenSession { id: None, ttl_ms: 1_000, on_disconnect: OnDisconnect::KeepUntilTtl };
        let reply = Reply::SessionOpened { session: SessionId(session), attach: AttachGeneration(1) };
        applied(seq, op, Ok(reply), Vec::new())
    }

    pub(in crate::invariants) fn ended(
        seq: u64,
        session: u64,
        why: EndReason,
        only_if: Option<u64>,
        then: Option<Event>,
    ) -> Applied {
        let session = SessionId(session);
        let op = Op::EndSession { session, why, only_if: only_if.map(AttachGeneration) };
        let events = [Event::SessionEnded { session, why }].into_iter().chain(then).collect();
        applied(seq, op, Ok(Reply::SessionEnded), events)
    }

    pub(in crate::invariants) fn grant(seq: u64, election: &str, session: u64, token: u32) -> Grant {
        Grant {
            election: election.into(),
            candidate: format!("of-{session}"),
            session: SessionId(session),
            serial: Serial(1),
            token: Token::new(0, token),
            seq: Seq(seq),
            since_unix_ms: 0,
            value: Default::default(),
        }
    }

    pub(in crate::invariants) fn elected(grant: Grant, previous: Option<(u32, EndReason)>) -> Event {
        Event::Elected { grant, previous: previous.map(|(token, why)| (Token::new(0, token), why)) }
    }

    /// A campaign that is granted at once.
    pub(in crate::invariants) fn campaigned(seq: u64, election: &str, session: u64, token: u32) -> Applied {
        let grant = grant(seq, election, session, token);
        let op = Op::Campaign {
            session: grant.session,
            serial: grant.serial,
            election: election.into(),
            candidate: grant.candidate.clone(),
            value: Default::default(),
            priority: 0,
        };
        applied(seq, op, Ok(Reply::Campaigned { grant: Some(grant.clone()) }), vec![elected(grant, None)])
    }

    pub(in crate::invariants) fn put(seq: u64, write: &str) -> Applied {
        let op = Op::Keys(KeyOp::Put(Put::new(b"k", write)));
        let changed = Event::KeyChanged { key: b"k".to_vec(), revision: Revision(seq), version: Some(1) };
        applied(seq, op, Ok(Reply::Keys(KeyReply::Put { version: 1, previous: None })), vec![changed])
    }

    pub(in crate::invariants) fn under(mut put: Applied, of: &str, with: u32) -> Applied {
        if let Op::Keys(KeyOp::Put(put)) = &mut put.command.op {
            put.fence = Some(Fence { election: of.into(), token: Token::new(0, with) });
        }
        put
    }

    pub(in crate::invariants) fn named(mut put: Applied, session: u64, serial: u64) -> Applied {
        put.command.request =
            Some(RequestId { session: SessionId(session), serial: Serial(serial), acked_below: Serial(0) });
        put
    }

    #[test]
    fn each_command_makes_news_once() {
        let mut history = History::default();
        assert!(history.next(&fact(put(1, "a"))).is_some());
        assert!(history.next(&fact(put(1, "a"))).is_none(), "another node applies it, too");
        assert!(history.next(&fact(put(2, "b"))).is_some());
    }
}

//! One election as an observer hears it: the present state first, then every change, across reconnects.

use std::collections::VecDeque;
use std::sync::Arc;

use palisade_fence::Token;
use palisade_wire::coord::v1;
use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;

use crate::listening::Listening;
use crate::requests::Shared;
use crate::seen::Position;
use crate::{Error, ErrorKind, Grant, Header};

/// One piece of news about an election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Observed {
    /// Rises from one piece of news to the next, except that all events of one command share theirs.
    pub seq: u64,
    /// Where it stands in the order of everything.
    pub header: Header,
    /// What happened.
    pub kind: ObservedKind,
}

/// Where an observer goes on: after this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ObserveFrom {
    /// Of the header that was seen last; `None`: the cluster's present one.
    pub generation: Option<u32>,
    /// Of that header; 0: from the first event of the election.
    pub seq: u64,
}

/// What an observer hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ObservedKind {
    /// The present state: first unless it goes on from somewhere, and after a gap.
    State {
        /// `None`: nobody leads.
        leader: Option<Grant>,
    },
    /// A new leader. A hand-over is one event.
    Elected {
        /// The new leadership.
        leader: Grant,
        /// The one before; `None`: there was none.
        previous: Option<Token>,
        /// Why the one before ended; empty if there was none.
        why: String,
    },
    /// The leader changed what it proclaims.
    ValueChanged {
        /// With the new value.
        leader: Grant,
    },
    /// Nobody leads any more.
    Vacant {
        /// The leadership that ended.
        previous: Token,
        /// Why it ended.
        why: String,
    },
    /// What happened meanwhile cannot be told; the present state follows.
    Gap {
        /// `compacted`: it is no longer kept; `generation`: the cluster was restored; `ahead`: the cluster has not come so far.
        why: String,
        /// Everything after this could still be told.
        complete_after_seq: u64,
    },
}

impl ObservedKind {
    /// Who leads after it; `None`: nobody.
    pub fn leader(&self) -> Option<&Grant> {
        match self {
            ObservedKind::State { leader } => leader.as_ref(),
            ObservedKind::Elected { leader, .. } | ObservedKind::ValueChanged { leader } => Some(leader),
            ObservedKind::Vacant { .. } | ObservedKind::Gap { .. } => None,
        }
    }
}

/// Hears of one election. Never goes back within a cluster.
#[derive(Debug)]
pub struct Observer {
    stream: Listening<v1::ObserveReply>,
    election: String,
    /// News of the last message that were not taken yet.
    pending: VecDeque<Observed>,
    /// Where it was to begin; `None`: at the present state.
    from: Option<ObserveFrom>,
    /// Up to where everything has been told; `None`: nothing has. After a reconnect it goes on from there.
    told: Option<Position>,
    /// Who leads, as it was told.
    leader: Option<Grant>,
}

impl Observer {
    pub(crate) fn new(shared: Arc<Shared>, election: &str, from: Option<ObserveFrom>) -> Observer {
        let (stream, election) = (Listening::new(shared), election.to_owned());
        Observer { stream, election, pending: VecDeque::new(), from, told: None, leader: None }
    }

    /// The next piece of news. Waits as long as it takes, across reconnects; an error means that it cannot go on (a name
    /// that is not allowed, another cluster). Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Observed, Error> {
        loop {
            if let Some(observed) = self.pending.pop_front() {
                return Ok(observed);
            }
            if !self.stream.is_open() {
                let request = v1::ObserveRequest { election: self.election.clone(), from: self.resumes_from() };
                let ask = |channel| async { ElectionServiceClient::new(channel).observe(request).await };
                self.stream.open(ask).await?;
            }
            if let Some(message) = self.stream.next().await? {
                self.take(message)?;
            }
        }
    }

    fn resumes_from(&self) -> Option<v1::ObserveFrom> {
        match (self.told, self.from) {
            (Some(told), _) => Some(v1::ObserveFrom { generation: Some(told.generation), seq: told.seq }),
            (None, Some(from)) => Some(v1::ObserveFrom { generation: from.generation, seq: from.seq }),
            (None, None) => None,
        }
    }

    /// Keeps what is news in a message.
    fn take(&mut self, message: v1::ObserveReply) -> Result<(), Error> {
        let header = Header::of(message.header.as_ref());
        if let Err(error) = self.stream.shared.seen.admit(&header) {
            self.stream.close();
            return Err(error.of_a_read());
        }
        let position = Position::of(&header);
        if self.told.is_some_and(|told| position < told) {
            return Ok(());
        }
        let known = self.told == Some(position);
        let mut after_gap = false;
        for event in message.events {
            let Some(kind) = read(event)? else { continue };
            let leader = kind.leader().cloned();
            let news = match kind {
                // Of a node that does not go on from where it was: news only if something else leads, or says something else.
                ObservedKind::State { .. } => self.told.is_none() || after_gap || (!known && self.leader != leader),
                ObservedKind::Elected { .. }
                | ObservedKind::ValueChanged { .. }
                | ObservedKind::Vacant { .. }
                | ObservedKind::Gap { .. } => !known,
            };
            if news {
                after_gap = matches!(kind, ObservedKind::Gap { .. });
                self.leader = leader;
                self.pending.push_back(Observed { seq: header.seq, header, kind });
            }
        }
        self.told = Some(position);
        Ok(())
    }
}

fn read(event: v1::ObserveEvent) -> Result<Option<ObservedKind>, Error> {
    use v1::observe_event::Kind;
    let missing = || Error::not_applied(ErrorKind::BadAnswer, "the store sent an event without its leader");
    let leader = |grant: Option<v1::Grant>| Grant::of(grant.ok_or_else(missing)?).map_err(Error::of_a_read);
    Ok(Some(match event.kind {
        Some(Kind::State(state)) => {
            ObservedKind::State { leader: state.leader.map(|it| leader(Some(it))).transpose()? }
        }
        Some(Kind::Elected(elected)) => ObservedKind::Elected {
            leader: leader(elected.leader)?,
            previous: Token::from_wire(elected.previous_token),
            why: elected.why,
        },
        Some(Kind::ValueChanged(changed)) => ObservedKind::ValueChanged { leader: leader(changed.leader)? },
        Some(Kind::Vacant(vacant)) => {
            let previous = Token::from_wire(vacant.previous_token).ok_or_else(missing)?;
            ObservedKind::Vacant { previous, why: vacant.why }
        }
        Some(Kind::Gap(gap)) => ObservedKind::Gap { why: gap.why, complete_after_seq: gap.complete_after_seq },
        None => return Ok(None), // a kind that this program does not know
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use palisade_wire::coord::v1::observe_event::Kind;
    use palisade_world::World;

    use super::*;
    use crate::{Client, ClientConfig};

    fn observer() -> Observer {
        let config = ClientConfig { endpoints: vec!["a:1".to_owned()], request_timeout: Duration::from_secs(1) };
        Client::new(config, World::real()).unwrap().observe("e")
    }

    fn message(seq: u64, kind: Kind) -> v1::ObserveReply {
        let header = v1::Header { cluster_id: 7, generation: 0, seq, revision: 0 };
        v1::ObserveReply { header: Some(header), events: vec![v1::ObserveEvent { kind: Some(kind) }] }
    }

    fn grant(token: u64) -> v1::Grant {
        v1::Grant { election: "e".to_owned(), token, ..v1::Grant::default() }
    }

    fn state(token: Option<u64>) -> Kind {
        Kind::State(v1::observe_event::State { leader: token.map(grant) })
    }

    fn elected(token: u64) -> Kind {
        Kind::Elected(v1::observe_event::Elected { leader: Some(grant(token)), ..Default::default() })
    }

    fn tokens(observer: &mut Observer) -> Vec<(u64, Option<u64>)> {
        observer.pending.drain(..).map(|it| (it.seq, it.kind.leader().map(|grant| grant.token.get()))).collect()
    }

    #[test]
    fn observe_misses_the_first_event_or_never_says_no_leader() {
        let mut observer = observer();
        observer.take(message(4, state(None))).unwrap();
        observer.take(message(6, elected(1))).unwrap();
        let vacant = v1::observe_event::Vacant { previous_token: 1, why: "expired".to_owned() };
        observer.take(message(9, Kind::Vacant(vacant))).unwrap();
        assert_eq!(tokens(&mut observer), [(4, None), (6, Some(1)), (9, None)]);
    }

    #[test]
    fn after_a_reconnect_it_never_goes_back_and_repeats_nothing() {
        let mut observer = observer();
        observer.take(message(4, state(Some(1)))).unwrap();
        observer.take(message(6, elected(2))).unwrap();
        assert_eq!(tokens(&mut observer), [(4, Some(1)), (6, Some(2))]);
        // A node that lags behind: its past is known, its future is news.
        observer.take(message(4, state(Some(1)))).unwrap();
        observer.take(message(6, elected(2))).unwrap();
        observer.take(message(7, elected(3))).unwrap();
        assert_eq!(tokens(&mut observer), [(7, Some(3))]);
        // Another node, later: the same leader is no news, another is.
        observer.take(message(8, state(Some(3)))).unwrap();
        assert_eq!(tokens(&mut observer), []);
        observer.take(message(12, state(Some(5)))).unwrap();
        assert_eq!(tokens(&mut observer), [(12, Some(5))]);
    }

    #[test]
    fn it_resumes_from_what_it_told_last_and_tells_of_a_gap_before_the_state() {
        let mut fresh = observer();
        assert_eq!(fresh.resumes_from(), None);
        fresh.from = Some(ObserveFrom { generation: None, seq: 5 });
        assert_eq!(fresh.resumes_from(), Some(v1::ObserveFrom { generation: None, seq: 5 }));
        fresh.take(message(6, elected(2))).unwrap();
        assert_eq!(fresh.resumes_from(), Some(v1::ObserveFrom { generation: Some(0), seq: 6 }));
        assert_eq!(tokens(&mut fresh), [(6, Some(2))]);

        let gap = v1::observe_event::Gap { why: "compacted".to_owned(), complete_after_seq: 8 };
        let mut reply = message(20, Kind::Gap(gap));
        reply.events.push(v1::ObserveEvent { kind: Some(state(Some(2))) });
        fresh.take(reply).unwrap();
        let kinds: Vec<_> = fresh.pending.drain(..).map(|it| it.kind).collect();
        let told = |kind: &ObservedKind| matches!(kind, ObservedKind::Gap { why, complete_after_seq: 8 } if why == "compacted");
        assert!(matches!(&kinds[..], [gap, ObservedKind::State { leader: Some(_) }] if told(gap)), "{kinds:?}");
    }

    #[test]
    fn another_cluster_ends_it() {
        let mut observer = observer();
        observer.take(message(4, state(Some(1)))).unwrap();
        let mut other = message(5, elected(2));
        other.header = Some(v1::Header { cluster_id: 8, generation: 0, seq: 5, revision: 0 });
        assert_eq!(observer.take(other).unwrap_err().kind, ErrorKind::WrongCluster);
    }
}

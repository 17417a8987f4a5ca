//! An observer: follows the elections from outside and reports all that it is told. Every other one goes away now and then, and comes
//! back to what it saw last, or to what it saw some time before.

use std::collections::VecDeque;
use std::time::Duration;

use palisade_client::{ObserveFrom, Observed, ObservedKind};

use super::Process;
use super::candidate::{ELECTIONS, unless_at_rest};
use crate::facts::{Fact, News};

/// So many of the last news may be where it comes back to.
const PAST: usize = 12;

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    tokio::join!(follow(&process, ELECTIONS[0]), follow(&process, ELECTIONS[1]));
    Ok(())
}

async fn follow(process: &Process, election: &str) {
    let world = &process.world;
    // Where it may go on: after each of the last news.
    let mut seen: VecDeque<ObserveFrom> = VecDeque::new();
    let mut from: Option<ObserveFrom> = None;
    loop {
        let saw = |fact| process.witness.saw(process.who, fact);
        let (observer, after) = (process.name(), from.map(|from| from.seq));
        let generation = from.and_then(|from| from.generation);
        saw(Fact::ObserveBegan { observer, election: election.to_owned(), after, generation });
        // Clients of their own, so that they may sit on different nodes.
        let client = process.client();
        let mut observing = match from {
            Some(from) => client.observe_from(election, from),
            None => client.observe(election),
        };
        let stays = Duration::from_millis(400 + world.random_u64() % 4_000);
        let until = if process.who.number.is_multiple_of(2) { world.now() + stays } else { Duration::MAX };
        loop {
            let told = tokio::select! {
                biased;
                told = observing.next() => told,
                () = unless_at_rest(process, until) => break,
            };
            match told {
                Ok(observed) => {
                    seen.push_back(ObserveFrom { generation: Some(observed.header.generation), seq: observed.seq });
                    if seen.len() > PAST {
                        seen.pop_front();
                    }
                    let (observer, election, seq) = (process.name(), election.to_owned(), observed.seq);
                    if let Some(news) = news(observed) {
                        saw(Fact::Observed { observer, election, seq, news });
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "observing again");
                    break;
                }
            }
        }
        drop(observing);
        world.sleep(world.jitter(Duration::from_millis(600))).await;
        from = match world.random_u64() % 4 {
            0 => None,
            1 => seen.get((world.random_u64() % PAST as u64) as usize).copied(),
            _ => seen.back().copied(),
        };
    }
}

/// `None`: a gap, which says nothing by itself; the state that follows it does.
fn news(observed: Observed) -> Option<News> {
    Some(match observed.kind {
        ObservedKind::State { leader } => News::State(leader.map(|leader| leader.token)),
        ObservedKind::Elected { leader, previous, .. } => News::Elected(leader.token, previous),
        ObservedKind::ValueChanged { leader } => News::Proclaimed(leader.token),
        ObservedKind::Vacant { previous, .. } => News::Vacant(previous),
        ObservedKind::Gap { .. } => return None,
    })
}

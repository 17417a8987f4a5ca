//! An observer: follows the elections from outside and reports all that it is told.

use std::time::Duration;

use palisade_client::{Observed, ObservedKind};

use super::Process;
use super::candidate::ELECTIONS;
use crate::facts::{Fact, News};

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    tokio::join!(follow(&process, ELECTIONS[0]), follow(&process, ELECTIONS[1]));
    Ok(())
}

async fn follow(process: &Process, election: &str) {
    // Clients of their own, so that they may sit on different nodes.
    let mut observer = process.client().observe(election);
    loop {
        match observer.next().await {
            Ok(observed) => {
                let (observer, election, seq) = (process.name(), election.to_owned(), observed.seq);
                if let Some(news) = news(observed) {
                    process.witness.saw(process.who, Fact::Observed { observer, election, seq, news });
                }
            }
            Err(error) => {
                tracing::debug!(%error, "observing again");
                process.world.sleep(Duration::from_millis(50)).await;
                observer = process.client().observe(election);
            }
        }
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

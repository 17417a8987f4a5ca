//! What must hold, one file each. An invariant sees every fact and may object; some also say what must come about after
//! healing. They know nothing but facts: none of them looks into a process. Some judge by what clients were told alone, others
//! hold that against what the nodes applied.

mod answers;
mod asked;
mod begins;
mod beliefs;
mod bound;
mod disconnects;
mod fenced;
mod follows;
mod grants;
mod guards;
mod history;
mod ids_once;
mod job_exact;
mod joined;
mod kept;
mod keyspace;
mod knows;
mod ledgers_serve;
mod levels;
mod link;
mod majority;
mod observed;
mod once;
mod past;
mod registers;
mod reigns;
mod removals;
mod replicas;
mod requests;
mod reshaped;
mod rest;
mod serves;
mod sessions;
mod silent;
mod stale;
mod stands;
mod stops;
mod tokens;
mod told;
mod watched;
mod whole;
mod wiped;
mod workers_registered;

use std::time::Duration;

use crate::facts::{Fact, Restoration};
use crate::phase::Phase;
use crate::plan::{Fault, Plan, Who};

/// Objects to what must not be. The run ends with the first objection.
pub trait Invariant: Send {
    /// The name that is printed.
    fn name(&self) -> &'static str;
    /// Sees a fact at a simulated time.
    fn on(&mut self, _fact: &Fact, _at: Duration) -> Result<(), String> {
        Ok(())
    }
    /// Is asked after each step of the simulation, too.
    fn tick(&mut self, _at: Duration) -> Result<(), String> {
        Ok(())
    }
    /// A process is gone, without a word.
    fn gone(&mut self, _who: Who) {}
    /// A fault begins or ends.
    fn fault(&mut self, _fault: &Fault, _begins: bool, _at: Duration) {}
    /// The cluster begins anew with a backup: what came after that is undone, and nobody is in the middle of anything. All nodes are
    /// down, and everybody has been told all that the old ones said.
    fn restored(&mut self, _restoration: &Restoration) {}
    /// A phase begins.
    fn phase(&mut self, _phase: Phase, _at: Duration) {}
    /// What must still come about in this phase. Asked only when there are no faults.
    fn missing(&self) -> Option<String> {
        None
    }
}

/// All of them, for a run of this plan.
pub(crate) fn all(plan: &Plan) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(begins::ARestoreBeginsAnew::default()),
        Box::new(tokens::TokensRise::default()),
        Box::new(beliefs::BeliefsDoNotOverlap::default()),
        Box::new(registers::RegistersAreLinearizable::default()),
        Box::new(past::ReadsEqualThePast::default()),
        Box::new(watched::WatchersSeeEveryChange::default()),
        Box::new(whole::TransactionsAreWhole),
        Box::new(bound::BoundKeysEndWithTheirSession::default()),
        Box::new(fenced::StaleWritesAreRefused::default()),
        Box::new(kept::BeliefsAreKept::default()),
        Box::new(stale::StaleReadsNeverGoBack::default()),
        Box::new(asked::RequestsReachTheHolder::default()),
        Box::new(stops::WhoIsNotRenewedEnds::default()),
        Box::new(reigns::HistoryIsTrue::default()),
        Box::new(knows::LeadersKnowIt::default()),
        Box::new(grants::OneGrantAtEachSeq::default()),
        Box::new(sessions::EndedSessionsHoldNothing::default()),
        Box::new(requests::RequestsTakeEffectOnce::default()),
        Box::new(removals::RemovalsAreAskedFor::default()),
        Box::new(told::WritersAreToldTheTruth::default()),
        Box::new(observed::ObserveIsComplete::new(plan)),
        Box::new(replicas::ReplicasAgree::new(plan)),
        Box::new(wiped::WipedNodesDoNotCount::default()),
        Box::new(ids_once::NodeIdsAreUsedOnce::default()),
        Box::new(reshaped::OperatorsAreToldTheTruth::default()),
        Box::new(joined::OnlyWhoHasJoinedTakesPart::default()),
        Box::new(levels::LevelsAreKnown::default()),
        Box::new(majority::AMajorityThatHearsItselfServes::new(plan)),
        Box::new(link::OneLinkDeposesNobody::new(plan)),
        Box::new(silent::OnlyTheSilentExpire::new(plan)),
        Box::new(disconnects::OnlyTheGoneAreDisconnected::default()),
        Box::new(serves::ServesAgain::new(plan)),
        Box::new(stands::CandidatesStand::new(plan)),
        Box::new(rest::ComesToRest::new(plan)),
        Box::new(guards::NothingRunsBelowItsGuard::default()),
        Box::new(follows::GuardsFollow::default()),
        Box::new(once::RunsAsOftenAsSent::default()),
        Box::new(answers::AnswersAreTrue::default()),
        Box::new(ledgers_serve::LedgersServe::of(plan)),
        Box::new(job_exact::JobResultsAreExact),
        Box::new(workers_registered::WorkersAreRegistered::new(plan)),
    ]
}

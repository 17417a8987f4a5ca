//! What goes wrong in a run, on purpose: by name, where it can be had, and how it is written down.
//!
//! A nemesis plays one fault from its beginning to its end, and returns when what was hit is there again. Each line of it is in the
//! history: `invoke` when it is tried, `ok` when it surely is in force, or over.

mod behind;
mod clocks;
mod disks;
mod kills;
mod links;
mod members;
mod pauses;
mod stale;

use std::time::Duration;

use anyhow::Context;
use jepsen_lite::history::{Record, Type};
use rand::rngs::SmallRng;
use serde_json::{Value, json};

use crate::api::Outcome;
use crate::run::{ELECTION, Run};
use crate::targets::Target;

/// Whoever is to follow a holder does so within this, or the run is not good.
pub(crate) const FOLLOWS_WITHIN: Duration = Duration::from_secs(20);

/// Whether a fault can be had at a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Works {
    Yes,
    /// With what stands there: root, or a program.
    With(&'static str),
    No,
}

use Works::{No, With, Yes};

macro_rules! nemeses {
    ($($nemesis:ident $name:literal sim $sim:ident local $local:expr, compose $compose:expr, namespaces $spaces:expr; $what:literal)+) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Nemesis { $(#[doc = $what] $nemesis,)+ }

        impl Nemesis {
            pub(crate) const ALL: &[Nemesis] = &[$(Nemesis::$nemesis,)+];

            /// The name by which it is asked for.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Nemesis::$nemesis => $name,)+ }
            }

            pub(crate) fn what(self) -> &'static str {
                match self { $(Nemesis::$nemesis => $what,)+ }
            }

            /// Whether `palisade-sim` has it as well.
            pub(crate) fn simulated(self) -> bool {
                match self { $(Nemesis::$nemesis => $sim,)+ }
            }

            pub(crate) fn works(self, target: Target) -> Works {
                match (self, target) {
                    $((Nemesis::$nemesis, Target::Local) => $local,
                      (Nemesis::$nemesis, Target::Compose) => $compose,
                      (Nemesis::$nemesis, Target::Namespaces) => $spaces,)+
                }
            }
        }
    };
}

nemeses! {
    KillHolder "kill-holder" sim true local Yes, compose Yes, namespaces Yes; "kill -9 of whoever holds the election"
    KillStoreLeader "kill-store-leader" sim true local Yes, compose Yes, namespaces Yes; "kill -9 of the node that leads the store"
    KillBoth "kill-both" sim true local Yes, compose Yes, namespaces Yes; "kill -9 of both at once"
    KillNewHolder "kill-new-holder" sim false local Yes, compose No, namespaces Yes; "kill -9 of each new holder as soon as it is elected, several times"
    KillTaskExecutor "kill-taskexecutor" sim true local Yes, compose Yes, namespaces No; "kill -9 of a TaskExecutor"
    RestartBehind "restart-behind" sim false local Yes, compose No, namespaces No; "a TaskExecutor is killed and comes back where it sees only a node that has not heard of the last leader"
    KillMinority "kill-minority" sim true local Yes, compose Yes, namespaces Yes; "kill -9 of as many nodes as may fail"
    KillAll "kill-all" sim true local Yes, compose Yes, namespaces Yes; "kill -9 of all nodes at once"
    TermHolder "term-holder" sim false local Yes, compose Yes, namespaces Yes; "SIGTERM to whoever holds the election"
    TermStoreLeader "term-store-leader" sim false local Yes, compose Yes, namespaces Yes; "SIGTERM to the node that leads the store"
    TermTaskExecutor "term-taskexecutor" sim false local Yes, compose Yes, namespaces No; "SIGTERM to a TaskExecutor"
    RollingRestart "rolling-restart" sim true local Yes, compose Yes, namespaces Yes; "SIGTERM to one node after the other, each back before the next"
    PauseHolder "pause-holder" sim true local Yes, compose Yes, namespaces Yes; "SIGSTOP of the holder for longer than its TTL, then SIGCONT"
    PauseHolderShort "pause-holder-short" sim true local Yes, compose Yes, namespaces Yes; "SIGSTOP of the holder for less than its TTL"
    PauseStoreLeader "pause-store-leader" sim true local Yes, compose Yes, namespaces Yes; "SIGSTOP of the node that leads the store, for longer than an election"
    PauseMinority "pause-minority" sim true local Yes, compose Yes, namespaces Yes; "SIGSTOP of as many nodes as may fail"
    PartitionOne "partition-one" sim true local Yes, compose Yes, namespaces Yes; "one node cut off from the others; a container from everybody"
    PartitionLeader "partition-leader" sim true local Yes, compose Yes, namespaces Yes; "the node that leads the store cut off from the others"
    PartitionHalves "partition-halves" sim true local Yes, compose No, namespaces Yes; "two halves that do not see each other"
    PartitionRing "partition-ring" sim false local Yes, compose No, namespaces Yes; "each node sees a majority, no two the same one (five nodes)"
    PartitionOneWay "partition-one-way" sim true local Yes, compose No, namespaces Yes; "one node is not heard, or does not hear"
    PartitionBridge "partition-bridge" sim true local Yes, compose No, namespaces Yes; "two halves, and one node that both see"
    IsolateHolder "isolate-holder" sim true local Yes, compose Yes, namespaces No; "the holder cut off from all nodes for longer than its TTL"
    SlowLinks "slow-links" sim true local Yes, compose No, namespaces No; "every link between nodes slower by tens of milliseconds"
    LossyLinks "lossy-links" sim true local Yes, compose No, namespaces Yes; "packets between nodes lost, and sent again by TCP"
    StaleMessages "stale-messages" sim true local Yes, compose No, namespaces No; "writes of a leader held on the way while it led, let go after its successor has written"
    StaleCalls "stale-calls" sim true local Yes, compose No, namespaces No; "calls of a leading JobManager to its TaskExecutors held on the way while it led, let go after its successor has them"
    WallClock "wall-clock" sim true local With("a C compiler, and a binary that is linked dynamically"), compose No, namespaces With("a C compiler, and a binary that is linked dynamically"); "the wall clock of a node jumps by up to days, back and forth"
    WallClockFast "wall-clock-fast" sim false local With("a C compiler, and a binary that is linked dynamically"), compose No, namespaces With("a C compiler, and a binary that is linked dynamically"); "the wall clock of the node that leads the store runs twice as fast as it should"
    ClockRate "clock-rate" sim true local With("a C compiler, and a binary that is linked dynamically"), compose No, namespaces With("a C compiler, and a binary that is linked dynamically"); "the clocks of a node run 0.5 % too fast or too slow, within what is promised"
    SlowDisk "slow-disk" sim true local With("strace"), compose No, namespaces With("strace"); "each fdatasync of a node takes a tenth of a second and more"
    FullDisk "full-disk" sim true local With("root"), compose No, namespaces No; "the disk of a node is full for a while"
    PowerCut "power-cut" sim true local With("root, strace, and ext4 on a loop device"), compose No, namespaces No; "the power of one node fails: what was not synced is lost"
    PowerCutAll "power-cut-all" sim true local With("root, strace, and ext4 on a loop device"), compose No, namespaces No; "the power of all nodes fails at once"
    TransferStoreLeader "transfer-store-leader" sim true local Yes, compose Yes, namespaces Yes; "an administrator has another node lead the store"
    Membership "membership" sim true local Yes, compose No, namespaces No; "a node joins, votes, and is removed, while all goes on"
    TransferHolder "transfer-holder" sim true local Yes, compose Yes, namespaces Yes; "an administrator hands the election to somebody who waits"
}

impl Nemesis {
    /// Why it cannot be had at a target, if it surely cannot.
    pub(crate) fn refused(self, target: Target) -> Option<String> {
        let elsewhere = || {
            let places = Target::ALL.iter().filter(|other| self.works(**other) != No).map(|other| other.name());
            places.collect::<Vec<_>>().join(" and ")
        };
        match self.works(target) {
            Yes => None,
            No => Some(format!("{} does not work at {}; it does at {}", self.name(), target.name(), elsewhere())),
            With(needs) if needs.contains("root") && !is_root() => Some(format!("{} needs {needs}", self.name())),
            With(needs) if needs.contains("strace") && !has("strace") => Some(format!("{} needs {needs}", self.name())),
            With(needs) if needs.starts_with("a C compiler") && !has("cc") => {
                Some(format!("{} needs {needs}", self.name()))
            }
            With(_) => None,
        }
    }

    /// What must have happened of it, as gates of the history.
    pub(crate) fn gates(self, nemesis: &str) -> Vec<Value> {
        let happened = |f: &str, role: &str| {
            let count = json!({"process": nemesis, "type": "ok", "f": f, "phase": "start", "role": role});
            vec![json!({"name": format!("{} happened", self.name()), "count": count, "at_least": 1})]
        };
        match self {
            Nemesis::KillHolder => happened("kill", "holder"),
            Nemesis::KillStoreLeader => happened("kill", "store-leader"),
            Nemesis::KillBoth => happened("kill", "both"),
            Nemesis::KillNewHolder => happened("kill", "new-holder"),
            Nemesis::KillTaskExecutor => happened("kill", "taskexecutor"),
            Nemesis::RestartBehind => happened("kill", "taskexecutor-behind"),
            Nemesis::KillMinority => happened("kill", "minority"),
            Nemesis::KillAll => happened("kill", "all"),
            Nemesis::TermHolder => happened("term", "holder"),
            Nemesis::TermStoreLeader => happened("term", "store-leader"),
            Nemesis::TermTaskExecutor => happened("term", "taskexecutor"),
            Nemesis::RollingRestart => happened("term", "rolling"),
            Nemesis::PauseHolder => happened("pause", "holder"),
            Nemesis::PauseHolderShort => happened("pause", "holder-short"),
            Nemesis::PauseStoreLeader => happened("pause", "store-leader"),
            Nemesis::PauseMinority => happened("pause", "minority"),
            Nemesis::IsolateHolder => happened("partition", "holder"),
            Nemesis::PartitionOne
            | Nemesis::PartitionLeader
            | Nemesis::PartitionHalves
            | Nemesis::PartitionRing
            | Nemesis::PartitionOneWay
            | Nemesis::PartitionBridge => happened("partition", self.name().trim_start_matches("partition-")),
            Nemesis::SlowLinks => happened("slow", "links"),
            Nemesis::LossyLinks => happened("lossy", "links"),
            Nemesis::StaleMessages => {
                let released = json!({"process": nemesis, "type": "ok", "f": "release-stale", "role": "writes"});
                let refused = json!({"f": "write", "type": "fail", "error": "stale"});
                vec![
                    json!({"name": "stale messages were let go", "count": released, "at_least": 1}),
                    json!({"name": "a message that is let go is refused", "count": refused, "at_least": 1, "after_each": released}),
                ]
            }
            // It is `ok` only if one was refused, as the receivers count it.
            Nemesis::StaleCalls => {
                let held = json!({"process": nemesis, "type": "ok", "f": "hold", "role": "calls", "phase": "start"});
                let refused = json!({"process": nemesis, "type": "ok", "f": "release-stale", "role": "calls"});
                vec![
                    json!({"name": "stale calls were let go", "count": refused, "at_least": 1}),
                    json!({"name": "a call that is let go is refused", "count": refused, "at_least": 1, "after_each": held}),
                ]
            }
            Nemesis::WallClock | Nemesis::WallClockFast | Nemesis::ClockRate => happened("clock", self.name()),
            Nemesis::SlowDisk => happened("slow-disk", "node"),
            Nemesis::FullDisk => happened("full-disk", "node"),
            Nemesis::PowerCut => happened("power-cut", "node"),
            Nemesis::PowerCutAll => happened("power-cut", "all"),
            Nemesis::TransferStoreLeader => happened("transfer-store-leader", "store-leader"),
            Nemesis::Membership => happened("membership", "node"),
            Nemesis::TransferHolder => happened("transfer", "holder"),
        }
    }

    /// Plays it once.
    pub(crate) async fn play(self, run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
        let played = match self {
            Nemesis::KillHolder => kills::holder(run, rng, kills::How::Kill).await,
            Nemesis::KillStoreLeader => kills::store_leader(run, rng, kills::How::Kill).await,
            Nemesis::KillBoth => kills::both(run).await,
            Nemesis::KillNewHolder => kills::new_holders(run, rng).await,
            Nemesis::KillTaskExecutor => kills::taskexecutor(run, rng, kills::How::Kill).await,
            Nemesis::RestartBehind => behind::restart(run, rng).await,
            Nemesis::KillMinority => kills::minority(run, rng).await,
            Nemesis::KillAll => kills::all(run, rng).await,
            Nemesis::TermHolder => kills::holder(run, rng, kills::How::Term).await,
            Nemesis::TermStoreLeader => kills::store_leader(run, rng, kills::How::Term).await,
            Nemesis::TermTaskExecutor => kills::taskexecutor(run, rng, kills::How::Term).await,
            Nemesis::RollingRestart => kills::rolling(run, rng).await,
            Nemesis::PauseHolder => pauses::holder(run, rng, true).await,
            Nemesis::PauseHolderShort => pauses::holder(run, rng, false).await,
            Nemesis::PauseStoreLeader => pauses::store_leader(run, rng).await,
            Nemesis::PauseMinority => pauses::minority(run, rng).await,
            Nemesis::PartitionOne
            | Nemesis::PartitionLeader
            | Nemesis::PartitionHalves
            | Nemesis::PartitionRing
            | Nemesis::PartitionOneWay
            | Nemesis::PartitionBridge => links::partition(run, rng, self).await,
            Nemesis::IsolateHolder => links::isolate_holder(run, rng).await,
            Nemesis::SlowLinks => links::slow(run, rng).await,
            Nemesis::LossyLinks => links::lossy(run, rng).await,
            Nemesis::StaleMessages => stale::writes(run).await,
            Nemesis::StaleCalls => stale::calls(run).await,
            Nemesis::WallClock => clocks::wall(run, rng).await,
            Nemesis::WallClockFast => clocks::fast_wall(run, rng).await,
            Nemesis::ClockRate => clocks::rate(run, rng).await,
            Nemesis::SlowDisk => disks::slow(run, rng).await,
            Nemesis::FullDisk => disks::full(run, rng).await,
            Nemesis::PowerCut => disks::power_cut(run, rng, false).await,
            Nemesis::PowerCutAll => disks::power_cut(run, rng, true).await,
            Nemesis::TransferStoreLeader => members::transfer_store_leader(run, rng).await,
            Nemesis::Membership => members::change(run, rng).await,
            Nemesis::TransferHolder => members::transfer_holder(run, rng).await,
        };
        played.with_context(|| format!("playing {}", self.name()))
    }
}

/// Whether this process acts for root: its own entry in /proc is root's then.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// Whether a program is there.
pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// One instance of a fault, for the history.
#[derive(Debug)]
pub(crate) struct Fault<'a> {
    run: &'a Run,
    f: &'static str,
    key: String,
    targets: Vec<String>,
    role: String,
}

impl<'a> Fault<'a> {
    pub(crate) fn new(run: &'a Run, f: &'static str, targets: &[String], role: &str) -> Fault<'a> {
        let key = format!("{f}-{}", run.instance());
        Fault { run, f, key, targets: targets.to_vec(), role: role.to_owned() }
    }

    fn line(&self, kind: Type, phase: &str) -> Record {
        let mut record = Record::new(self.run.nemesis, kind, self.f);
        record.key = Some(self.key.clone());
        record.value = json!({"phase": phase, "targets": self.targets, "role": self.role});
        record
    }

    async fn phase(&self, phase: &str, act: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        self.run.recorder.record(self.line(Type::Invoke, phase));
        let acted = act.await;
        let mut end = self.line(Type::Ok, phase);
        if let Err(error) = &acted {
            (end.kind, end.error) = (Type::Info, Some(format!("{error:#}")));
        }
        self.run.recorder.record(end);
        acted
    }

    /// Brings it about.
    pub(crate) async fn start(&self, act: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        self.phase("start", act).await
    }

    /// Mends it.
    pub(crate) async fn stop(&self, act: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        self.phase("stop", act).await
    }

    /// A moment that was surely tried and surely came to nothing.
    pub(crate) fn came_to_nothing(&self, why: &str) {
        self.run.recorder.record(self.line(Type::Invoke, "start"));
        let error = Some(why.to_owned());
        self.run.recorder.record(Record { error, ..self.line(Type::Fail, "start") });
    }
}

/// Who holds the election and knows it, if it is somebody whom faults can reach, with the token.
pub(crate) async fn holder(run: &Run) -> anyhow::Result<(String, u64)> {
    let until = tokio::time::Instant::now() + FOLLOWS_WITHIN;
    loop {
        let (name, token) = holder_above(run, 0).await?;
        // What a JobManager knows is not told to us.
        if run.election != ELECTION || run.highest_told() >= token {
            return Ok((name, token));
        }
        anyhow::ensure!(
            tokio::time::Instant::now() < until,
            "{name} did not say within {FOLLOWS_WITHIN:?} that it leads"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The first holder that is seen whose token is above `token`, if it is a process.
pub(crate) async fn holder_above(run: &Run, token: u64) -> anyhow::Result<(String, u64)> {
    let until = tokio::time::Instant::now() + FOLLOWS_WITHIN;
    let mut api = run.stage.api(0)?;
    while tokio::time::Instant::now() < until {
        if let Outcome::Ok((_, Some(grant))) = api.leader(run.election).await
            && grant.token > token
            && !grant.candidate_id.starts_with("n")
        {
            return Ok((grant.candidate_id, grant.token));
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    anyhow::bail!("nobody was seen to hold {} above token {token} within {FOLLOWS_WITHIN:?}", run.election)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_row_for_every_nemesis_that_says_where_it_works() {
        let page = include_str!("../README.md");
        for nemesis in Nemesis::ALL {
            let cell = |target| match nemesis.works(target) {
                Yes => "yes".to_owned(),
                With(needs) => format!("with {needs}"),
                No => "no".to_owned(),
            };
            let row = format!(
                "| `{}` | {} | {} | {} | {} | {} |",
                nemesis.name(),
                nemesis.what(),
                if nemesis.simulated() { "yes" } else { "no" },
                cell(Target::Local),
                cell(Target::Compose),
                cell(Target::Namespaces)
            );
            assert!(page.contains(&row), "README.md lacks the row\n{row}");
        }
    }

    #[test]
    fn every_nemesis_must_have_happened_for_a_run_to_count() {
        for nemesis in Nemesis::ALL {
            assert!(!nemesis.gates("nemesis").is_empty(), "{}", nemesis.name());
            assert!(Target::ALL.iter().any(|target| nemesis.works(*target) != No), "{}", nemesis.name());
        }
    }

    #[test]
    fn a_fault_in_the_wrong_place_is_refused_with_the_right_one() {
        let refused = Nemesis::StaleMessages.refused(Target::Compose).unwrap();
        assert!(refused.contains("does at local"), "{refused}");
        assert_eq!(Nemesis::KillHolder.refused(Target::Compose), None);
    }
}

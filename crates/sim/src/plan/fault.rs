//! What can go wrong.

use std::time::Duration;

use super::Who;

/// One thing that goes wrong. When its time is over, what it broke is put right again, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A process ends without a word; of a node's disk, what was not synced may be lost. It comes back at the end.
    Crash(Who),
    /// All nodes end at once and come back: the only fault that can lose what a majority acknowledged and had not synced.
    CrashAll,
    /// A node is told to stop, hands over and comes back at the end.
    Restart(usize),
    /// A process stands still (SIGSTOP) and then goes on as if nothing had happened.
    Pause(Who),
    /// Messages between some processes are lost or late.
    Cut(Pattern, Cut),
    /// A node's disk takes its time.
    SlowDisk(usize),
    /// A node's next sync fails: the node must stop. It comes back at the end.
    FailSync(usize),
    /// A node's disk is full until the end; a node that stopped comes back.
    FillDisk(usize),
    /// A node's disk has little space left until the end, and the node is told before anything is refused: it hands over, takes no
    /// more entries, and goes on.
    LowDisk(usize),
    /// A process that is no node finds no room for its files.
    FillFiles(Who),
    /// A node ends and comes back with an empty disk. It must not count as itself; nothing puts that right.
    Wipe(usize),
    /// A process's clock runs fast or slow, by so many millionths, for the rest of the run.
    ClockRate(Who, i32),
    /// A machine's wall clock jumps by so many milliseconds, as when somebody sets it. Its boot-time clock goes on.
    ClockJump(Who, i64),
    /// Messages between some processes take at least so long, each way.
    Lag(Pattern, Duration),
    /// The store leader, whoever it is, is asked to hand over to a node.
    TransferStoreLeader(usize),
    /// All nodes end for good, after everything else that was wrong is put right; at the end a new cluster begins with a backup, at the
    /// same addresses. Nothing else goes wrong meanwhile. Lasts longer than every TTL: whoever led then knows that it does not.
    Restore(Saved),
    /// The machine that was a node before the last restore is switched on in the place of the new one, until the end.
    Revive(usize),
    /// A node is told to stop, and comes back at the end with a program that knows a higher level, for good.
    Upgrade(usize),
}

/// Which backup is restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saved {
    /// The first that was saved, perhaps once more.
    First,
    /// The last.
    Last,
}

/// Whose messages to whom a cut concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One process and everybody.
    Isolate(Who),
    /// One process and all nodes: everybody else goes on hearing it, and it believes what it knew.
    FromStore(Who),
    /// The nodes with these numbers and the other nodes. Clients hear everybody.
    Halves(Vec<usize>),
    /// Every node hears only its two neighbours in a ring.
    Ring,
    /// Two halves of the nodes that only this node connects.
    Bridge(usize),
    /// The first of these nodes hears no other node than the second, who hears everybody.
    Only(usize, usize),
    /// From one process to another, in this direction only.
    OneWay(Who, Who),
    /// Two processes.
    Link(Who, Who),
    /// These processes and everybody else: a part of the building is cut off, with its nodes and its clients.
    Apart(Vec<Who>),
}

/// What becomes of the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// They are lost, and with them the connections that carried them.
    Drop,
    /// They arrive when the cut is over, in order, as after a lossy link's retransmissions.
    Hold,
}

impl Fault {
    /// The kind, for coverage.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Crash(who) if who.role == super::Role::Node => "crash-node",
            Fault::Crash(who) if who.role == super::Role::JobManager => "crash-jobmanager",
            Fault::Crash(who) if who.role == super::Role::TaskExecutor => "crash-taskexecutor",
            Fault::Crash(_) => "crash-client",
            Fault::CrashAll => "crash-all",
            Fault::Restart(_) => "restart",
            Fault::Pause(who) if who.role == super::Role::Node => "pause-node",
            Fault::Pause(_) => "pause-client",
            Fault::Cut(Pattern::Isolate(_), Cut::Drop) => "isolate",
            Fault::Cut(Pattern::FromStore(_), Cut::Drop) => "from-store",
            Fault::Cut(Pattern::Halves(_), Cut::Drop) => "halves",
            Fault::Cut(Pattern::Ring, Cut::Drop) => "ring",
            Fault::Cut(Pattern::Bridge(_), Cut::Drop) => "bridge",
            Fault::Cut(Pattern::Only(..), Cut::Drop) => "only",
            Fault::Cut(Pattern::OneWay(..), _) => "one-way",
            Fault::Cut(Pattern::Link(..), Cut::Drop) => "link",
            Fault::Cut(Pattern::Apart(_), Cut::Drop) => "apart",
            Fault::Cut(_, Cut::Hold) => "hold",
            Fault::SlowDisk(_) => "slow-disk",
            Fault::FailSync(_) => "fail-sync",
            Fault::FillDisk(_) => "full-disk",
            Fault::LowDisk(_) => "low-disk",
            Fault::FillFiles(_) => "full-files",
            Fault::Wipe(_) => "wipe",
            Fault::ClockRate(..) => "clock-rate",
            Fault::ClockJump(..) => "clock-jump",
            Fault::Lag(..) => "lag",
            Fault::TransferStoreLeader(_) => "transfer",
            Fault::Restore(Saved::First) => "restore-first",
            Fault::Restore(Saved::Last) => "restore-last",
            Fault::Revive(_) => "revive",
            Fault::Upgrade(_) => "upgrade",
        }
    }

    /// Every kind.
    pub const KINDS: [&'static str; 32] = [
        "crash-node",
        "crash-client",
        "crash-jobmanager",
        "crash-taskexecutor",
        "crash-all",
        "restart",
        "pause-node",
        "pause-client",
        "isolate",
        "from-store",
        "halves",
        "ring",
        "bridge",
        "only",
        "one-way",
        "link",
        "apart",
        "hold",
        "slow-disk",
        "fail-sync",
        "full-disk",
        "low-disk",
        "full-files",
        "wipe",
        "clock-rate",
        "clock-jump",
        "lag",
        "transfer",
        "restore-first",
        "restore-last",
        "revive",
        "upgrade",
    ];

    /// Every process that it names.
    pub fn names(&self) -> Vec<Who> {
        match self {
            Fault::CrashAll | Fault::Restore(_) => Vec::new(),
            Fault::Crash(who) | Fault::Pause(who) | Fault::FillFiles(who) => vec![*who],
            Fault::ClockRate(who, _) | Fault::ClockJump(who, _) => vec![*who],
            Fault::Cut(pattern, _) | Fault::Lag(pattern, _) => pattern.names(),
            Fault::Restart(node)
            | Fault::SlowDisk(node)
            | Fault::FailSync(node)
            | Fault::FillDisk(node)
            | Fault::LowDisk(node)
            | Fault::Wipe(node)
            | Fault::Revive(node)
            | Fault::Upgrade(node)
            | Fault::TransferStoreLeader(node) => vec![Who::node(*node)],
        }
    }
}

impl Pattern {
    /// Every process that it names.
    fn names(&self) -> Vec<Who> {
        match self {
            Pattern::Ring => Vec::new(),
            Pattern::Isolate(who) | Pattern::FromStore(who) => vec![*who],
            Pattern::OneWay(one, other) | Pattern::Link(one, other) => vec![*one, *other],
            Pattern::Halves(side) => side.iter().copied().map(Who::node).collect(),
            Pattern::Bridge(node) => vec![Who::node(*node)],
            Pattern::Only(one, other) => vec![Who::node(*one), Who::node(*other)],
            Pattern::Apart(side) => side.clone(),
        }
    }

    /// The directed pairs that it concerns, among these.
    pub fn pairs(&self, everybody: &[Who]) -> Vec<(Who, Who)> {
        let nodes: Vec<Who> = everybody.iter().copied().filter(|who| who.role == super::Role::Node).collect();
        let between = |all: &[Who], apart: &dyn Fn(Who, Who) -> bool| {
            let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
            pairs.filter(|(from, to)| from != to && apart(*from, *to)).collect::<Vec<_>>()
        };
        match self {
            Pattern::Isolate(who) => between(everybody, &|from, to| from == *who || to == *who),
            Pattern::FromStore(who) => {
                let mut nodes = nodes;
                nodes.retain(|node| node != who);
                nodes.into_iter().flat_map(|node| [(*who, node), (node, *who)]).collect()
            }
            Pattern::Halves(side) => {
                between(&nodes, &|from, to| side.contains(&from.number) != side.contains(&to.number))
            }
            Pattern::Ring => {
                let count = nodes.len();
                let apart = |one: Who, other: Who| {
                    let steps = one.number.abs_diff(other.number);
                    steps.min(count - steps) > 1
                };
                between(&nodes, &apart)
            }
            Pattern::Bridge(bridge) => {
                // The halves are the nodes before and after the bridge in a ring.
                let count = nodes.len();
                let half = |who: Who| ((who.number + count - bridge) % count) * 2 > count;
                let apart =
                    |one: Who, other: Who| one.number != *bridge && other.number != *bridge && half(one) != half(other);
                between(&nodes, &apart)
            }
            Pattern::Only(one, other) => between(&nodes, &|from, to| {
                let (from, to) = (from.number, to.number);
                (from == *one && to != *other) || (to == *one && from != *other)
            }),
            Pattern::OneWay(from, to) => vec![(*from, *to)],
            Pattern::Link(one, other) => vec![(*one, *other), (*other, *one)],
            Pattern::Apart(side) => between(everybody, &|from, to| side.contains(&from) != side.contains(&to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pattern: &Pattern, nodes: usize) -> Vec<(usize, usize)> {
        let everybody: Vec<Who> = (1..=nodes).map(Who::node).collect();
        let mut pairs: Vec<_> =
            pattern.pairs(&everybody).into_iter().map(|(from, to)| (from.number, to.number)).collect();
        pairs.retain(|(from, to)| from < to);
        pairs
    }

    #[test]
    fn a_ring_of_five_leaves_two_neighbours() {
        assert_eq!(pairs(&Pattern::Ring, 5), [(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)]);
        assert_eq!(pairs(&Pattern::Ring, 3), [], "three nodes are all neighbours");
    }

    #[test]
    fn both_halves_see_the_bridge() {
        assert_eq!(pairs(&Pattern::Bridge(2), 3), [(1, 3)]);
        assert_eq!(pairs(&Pattern::Bridge(1), 5), [(2, 4), (2, 5), (3, 4), (3, 5)]);
        assert_eq!(pairs(&Pattern::Bridge(5), 5), [(1, 3), (1, 4), (2, 3), (2, 4)]);
    }

    #[test]
    fn one_node_hears_only_one_other() {
        assert_eq!(pairs(&Pattern::Only(1, 2), 4), [(1, 3), (1, 4)]);
        assert_eq!(pairs(&Pattern::Only(3, 1), 4), [(2, 3), (3, 4)]);
    }

    #[test]
    fn clients_are_apart_with_the_nodes_of_their_side() {
        let client = |number| Who { role: super::super::Role::Candidate, number };
        let (one, two, with_one, with_two) = (Who::node(1), Who::node(2), client(1), client(2));
        let pairs = Pattern::Apart(vec![one, with_one]).pairs(&[one, two, with_one, with_two]);
        assert!(pairs.contains(&(with_one, two)) && pairs.contains(&(two, with_one)), "{pairs:?}");
        assert!(!pairs.contains(&(with_one, one)) && !pairs.contains(&(with_two, two)), "{pairs:?}");
        assert_eq!(pairs.len(), 8);
    }

    #[test]
    fn halves_are_apart_in_both_directions() {
        assert_eq!(pairs(&Pattern::Halves(vec![3]), 3), [(1, 3), (2, 3)]);
        let everybody: Vec<Who> = (1..=3).map(Who::node).collect();
        assert_eq!(Pattern::Halves(vec![3]).pairs(&everybody).len(), 4);
    }
}

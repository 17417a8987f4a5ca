//! Which transaction must come before which, and a cycle among them.
//!
//! The strongest reasons are tried first, so that a cycle is called by the weakest isolation level that it already breaks: *ww* alone,
//! then *wr*, then *rw*, then real time, then the claimed order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{List, Part, Problem, Txn};
use crate::history::Type;

/// Why one comes before another. In the order in which cycles are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It appended right before it.
    WriteWrite,
    /// It appended what the other read last.
    WriteRead,
    /// It read a list without what the other appended next.
    ReadWrite,
    /// It had completed when the other began.
    RealTime,
    /// The tested system says so.
    Seq,
}

impl Why {
    const ALL: [Why; 5] = [Why::WriteWrite, Why::WriteRead, Why::ReadWrite, Why::RealTime, Why::Seq];

    fn words(self) -> &'static str {
        match self {
            Why::WriteWrite => "appended right before",
            Why::WriteRead => "appended what was read by",
            Why::ReadWrite => "did not see what was appended by",
            Why::RealTime => "had completed when there began",
            Why::Seq => "claims a lower seq than",
        }
    }
}

/// Edges with the strongest reason of each. Vertices above the transactions are moments of real time.
struct Graph {
    edges: Vec<BTreeMap<usize, Why>>,
}

impl Graph {
    fn add(&mut self, from: usize, to: usize, why: Why) {
        if from != to {
            let entry = self.edges[from].entry(to).or_insert(why);
            *entry = (*entry).min(why);
        }
    }
}

/// A cycle, with its transactions in words.
pub(super) fn cycle(txns: &[Txn<'_>], lists: &BTreeMap<&str, List<'_>>) -> Option<Problem> {
    let mut graph = Graph { edges: vec![BTreeMap::new(); txns.len()] };
    for (key, list) in lists {
        dependencies(&mut graph, txns, key, list);
    }
    real_time(&mut graph, txns);
    seq(&mut graph, txns);
    for weakest in Why::ALL {
        let within = |why: Why| why <= weakest;
        for component in components(&graph, &within) {
            let cycle = shortest(&graph, &component, &within);
            if !cycle.is_empty() {
                return Some(tell(txns, &graph, &cycle));
            }
        }
    }
    None
}

fn dependencies(graph: &mut Graph, txns: &[Txn<'_>], key: &str, list: &List<'_>) {
    let order: Vec<usize> =
        list.longest.iter().filter_map(|element| list.appended.get(&element.to_string()).copied()).collect();
    for pair in order.windows(2) {
        graph.add(pair[0], pair[1], Why::WriteWrite);
    }
    // Acknowledged, and in no list that was read: they come after everything that was.
    let placed: BTreeSet<usize> = order.iter().copied().collect();
    let after: Vec<usize> = list
        .appended
        .values()
        .copied()
        .filter(|at| !placed.contains(at) && txns[*at].op.outcome() == Type::Ok)
        .collect();
    if let Some(&last) = order.last() {
        for &next in &after {
            graph.add(last, next, Why::WriteWrite);
        }
    }
    for (at, txn) in txns.iter().enumerate().filter(|(_, txn)| txn.op.outcome() == Type::Ok) {
        // What it found, before its own appends: the first read of the list, less what it had appended by then.
        let mut own = 0;
        for part in &txn.parts {
            match part {
                Part::Append { key: of, .. } if *of == key => own += 1,
                Part::Read { key: of, list: read } if *of == key => {
                    let found = read.len().saturating_sub(own);
                    if let Some(writer) = found.checked_sub(1).and_then(|last| order.get(last)) {
                        graph.add(*writer, at, Why::WriteRead);
                    }
                    match order[found.min(order.len())..].iter().find(|next| **next != at) {
                        Some(&next) => graph.add(at, next, Why::ReadWrite),
                        None => after.iter().for_each(|&next| graph.add(at, next, Why::ReadWrite)),
                    }
                    break;
                }
                _ => {}
            }
        }
    }
}

/// From what had completed to what began then, without the edges that follow from others.
fn real_time(graph: &mut Graph, txns: &[Txn<'_>]) {
    let mut ends: Vec<(usize, usize, bool)> = Vec::new();
    for (at, txn) in txns.iter().enumerate().filter(|(_, txn)| txn.op.outcome() != Type::Fail) {
        ends.push((txn.op.invoked_at, at, false));
        if let Some(end) = txn.op.ended_at.filter(|_| txn.op.outcome() == Type::Ok) {
            ends.push((end, at, true));
        }
    }
    ends.sort_unstable();
    // Completed, and nothing that began after them has completed yet.
    let mut frontier: BTreeSet<usize> = BTreeSet::new();
    let mut before: HashMap<usize, Vec<usize>> = HashMap::new();
    for (_, at, completed) in ends {
        if completed {
            for earlier in before.remove(&at).unwrap_or_default() {
                frontier.remove(&earlier);
            }
            frontier.insert(at);
        } else {
            frontier.iter().for_each(|&earlier| graph.add(earlier, at, Why::RealTime));
            before.insert(at, frontier.iter().copied().collect());
        }
    }
}

/// Along the claimed order; looks at one state have none among themselves, but come after the command that made it.
fn seq(graph: &mut Graph, txns: &[Txn<'_>]) {
    let writes = |at: usize| txns[at].parts.iter().any(|part| matches!(part, Part::Append { .. }));
    let mut claimed: Vec<(u64, bool, usize)> =
        txns.iter().enumerate().filter_map(|(at, txn)| Some((txn.op.ok()?.seq?, !writes(at), at))).collect();
    claimed.sort_unstable();
    let (mut last_write, mut reads): (Option<usize>, Vec<usize>) = (None, Vec::new());
    for (_, look, at) in claimed {
        if let Some(write) = last_write {
            graph.add(write, at, Why::Seq);
        }
        if look {
            reads.push(at);
        } else {
            reads.drain(..).for_each(|read| graph.add(read, at, Why::Seq));
            last_write = Some(at);
        }
    }
}

/// Groups of transactions each of which comes before all others of its group (Tarjan, without recursion).
fn components(graph: &Graph, within: &impl Fn(Why) -> bool) -> Vec<Vec<usize>> {
    let count = graph.edges.len();
    let (mut index, mut low) = (vec![usize::MAX; count], vec![0; count]);
    let mut on_stack = vec![false; count];
    let (mut stack, mut found, mut next) = (Vec::new(), Vec::new(), 0);
    for root in 0..count {
        if index[root] != usize::MAX {
            continue;
        }
        let edges =
            |at: usize| graph.edges[at].iter().filter(|(_, why)| within(**why)).map(|(to, _)| *to).collect::<Vec<_>>();
        let mut walk = vec![(root, edges(root), 0)];
        (index[root], low[root], on_stack[root]) = (next, next, true);
        stack.push(root);
        next += 1;
        while let Some((at, to, done)) = walk.last_mut() {
            let at = *at;
            if let Some(&other) = to.get(*done) {
                *done += 1;
                if index[other] == usize::MAX {
                    (index[other], low[other], on_stack[other]) = (next, next, true);
                    stack.push(other);
                    next += 1;
                    walk.push((other, edges(other), 0));
                } else if on_stack[other] {
                    low[at] = low[at].min(index[other]);
                }
                continue;
            }
            walk.pop();
            if let Some((parent, ..)) = walk.last() {
                low[*parent] = low[*parent].min(low[at]);
            }
            if low[at] == index[at] {
                let mut component = Vec::new();
                while let Some(member) = stack.pop() {
                    on_stack[member] = false;
                    component.push(member);
                    if member == at {
                        break;
                    }
                }
                if component.len() > 1 {
                    found.push(component);
                }
            }
        }
    }
    found
}

/// A shortest cycle within a group: by breadth from some of its members.
fn shortest(graph: &Graph, component: &[usize], within: &impl Fn(Why) -> bool) -> Vec<usize> {
    /// Members tried: in a large group any short cycle will do.
    const TRIED: usize = 64;
    let members: BTreeSet<usize> = component.iter().copied().collect();
    let mut best: Vec<usize> = Vec::new();
    for &start in component.iter().take(TRIED) {
        let mut from: HashMap<usize, usize> = HashMap::new();
        let mut queue = VecDeque::from([start]);
        'search: while let Some(at) = queue.pop_front() {
            for (&to, _) in graph.edges[at].iter().filter(|(to, why)| members.contains(to) && within(**why)) {
                if to == start {
                    let mut cycle = vec![at];
                    let mut step = at;
                    while step != start {
                        step = from[&step];
                        cycle.push(step);
                    }
                    cycle.reverse();
                    if best.is_empty() || cycle.len() < best.len() {
                        best = cycle;
                    }
                    break 'search;
                }
                if to != start && !from.contains_key(&to) {
                    from.insert(to, at);
                    queue.push_back(to);
                }
            }
        }
    }
    best
}

fn tell(txns: &[Txn<'_>], graph: &Graph, cycle: &[usize]) -> Problem {
    let edge = |at: usize| {
        let (from, to) = (cycle[at], cycle[(at + 1) % cycle.len()]);
        (from, graph.edges[from][&to])
    };
    let reasons: Vec<Why> = (0..cycle.len()).map(|at| edge(at).1).collect();
    let rw = reasons.iter().filter(|why| **why == Why::ReadWrite).count();
    let name = match (rw, reasons.iter().max()) {
        (_, Some(Why::Seq)) => "against the claimed order",
        (0, Some(Why::WriteWrite)) => "G0, a write cycle",
        (0, Some(Why::WriteRead)) => "G1c, circular information flow",
        (0, _) => "G0/G1c against real time",
        (1, Some(Why::ReadWrite)) => "G-single, read skew",
        (_, Some(Why::ReadWrite)) => "G2, an anti-dependency cycle",
        (1, _) => "G-single against real time: a stale read",
        (..) => "G2 against real time",
    };
    let who = |at: usize| {
        let op = &txns[at].op;
        let value = &op.ok().unwrap_or(op.invoke).value;
        let mut text = value.to_string();
        if text.chars().count() > 120 {
            text = format!("{}…", text.chars().take(120).collect::<String>());
        }
        format!("{} {text}", op.invoke.process)
    };
    let steps: Vec<String> = (0..cycle.len())
        .map(|at| {
            let (from, why) = edge(at);
            format!("{} — {} —", who(from), why.words())
        })
        .collect();
    let detail = format!("{name}: {} {}", steps.join(" "), who(cycle[0]));
    (detail, cycle.iter().flat_map(|&at| txns[at].op.lines()).collect())
}

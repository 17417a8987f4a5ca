//! How long it took until somebody led again, and until writes went through again.

use std::collections::BTreeMap;

use super::latency::percentile;
use super::page::{Page, span};
use super::plot::{Fault, faults};
use crate::checkers::first_sights;
use crate::history::{History, Type, f};

/// After a fault of the store, a gap in its writes is looked for this long.
const LOOK_NS: u64 = 30_000_000_000;

/// What was measured of one kind of fault.
#[derive(Default)]
struct Measured {
    took: Vec<u64>,
    /// Faults after which it never happened.
    never: usize,
}

/// The table's rows: what was hit, by what, and how long it took.
type Table = BTreeMap<(String, String), Measured>;

pub(super) fn show(page: &mut Page, history: &History) {
    let faults = faults(history);
    let (grants, gaps) = (until_granted(history, &faults), until_written(history, &faults));
    page.heading("Failovers");
    if grants.is_empty() && gaps.is_empty() {
        page.dim("No fault was aimed at a holder or at the store leader.");
        return;
    }
    if !grants.is_empty() {
        page.raw("<h3>From the fault that hit a holder until the next grant was seen</h3>");
        table(page, &grants);
    }
    if !gaps.is_empty() {
        page.raw("<h3>Longest time without an acknowledged write around a fault of the store</h3>");
        table(page, &gaps);
    }
}

/// The same for a terminal: a line for each kind of fault.
pub(super) fn lines(history: &History) -> Vec<String> {
    let faults = faults(history);
    let say = |table: Table, what: &str| -> Vec<String> {
        let line = |((role, kind), measured): (&(String, String), &Measured)| {
            let [p50, p90, p99, longest] = measured.percentiles();
            let times = measured.took.len();
            format!("{kind} of {role}, {times} times: {what} p50 {p50}, p90 {p90}, p99 {p99}, longest {longest}")
        };
        table.iter().map(line).collect()
    };
    let granted = say(until_granted(history, &faults), "until the next grant was seen");
    granted.into_iter().chain(say(until_written(history, &faults), "without an acknowledged write")).collect()
}

impl Measured {
    /// The 50th, 90th, 99th and 100th, for people.
    fn percentiles(&self) -> [String; 4] {
        let mut took = self.took.clone();
        took.sort_unstable();
        let at = |of_hundred| if took.is_empty() { "–".to_owned() } else { span(percentile(&took, of_hundred)) };
        [50, 90, 99, 100].map(at)
    }
}

fn table(page: &mut Page, table: &Table) {
    let rows = table.iter().map(|((role, kind), measured)| {
        let [p50, p90, p99, longest] = measured.percentiles();
        let times = measured.took.len().to_string();
        let never = if measured.never > 0 { measured.never.to_string() } else { String::new() };
        vec![kind.clone(), role.clone(), times, p50, p90, p99, longest, never]
    });
    page.table(&["Fault", "Aimed at", "#Times", "#p50", "#p90", "#p99", "#Longest", "#Not before the end"], rows);
}

fn is_holder(fault: &Fault) -> bool {
    fault.role.contains("holder") || fault.role == "both"
}

/// For each fault of a holder: until a newer token of the election that it held was seen.
fn until_granted(history: &History, faults: &[Fault]) -> Table {
    let mut table = Table::new();
    let sights = first_sights(history);
    let beliefs = crate::checkers::beliefs(history);
    for fault in faults.iter().filter(|fault| is_holder(fault)) {
        let held = beliefs.iter().filter(|belief| {
            fault.targets.iter().any(|target| target == belief.process)
                && belief.from_ns <= fault.tried_ns
                && fault.tried_ns <= belief.until_ns
        });
        for belief in held {
            let row = table.entry((fault.role.clone(), fault.kind.clone())).or_default();
            let next = sights.iter().filter(|sight| {
                sight.election == belief.election && sight.token > belief.token && sight.time_ns >= fault.tried_ns
            });
            match next.map(|sight| sight.time_ns - fault.tried_ns).min() {
                Some(took) => row.took.push(took),
                None => row.never += 1,
            }
        }
    }
    table
}

/// For each fault of the store: the longest time between two acknowledged writes that ends after it.
fn until_written(history: &History, faults: &[Fault]) -> Table {
    let mut table = Table::new();
    let writes = |op: &crate::history::Op<'_>| {
        matches!(op.invoke.f.as_str(), f::WRITE | f::CAS | f::TXN | f::DELETE) && op.outcome() == Type::Ok
    };
    let mut ends: Vec<u64> = history
        .ops()
        .filter(|op| !op.invoke.is_nemesis())
        .filter(writes)
        .filter_map(|op| Some(op.end?.time_ns))
        .collect();
    ends.sort_unstable();
    if ends.is_empty() {
        return table;
    }
    let store = |fault: &&Fault| {
        !is_holder(fault) && (fault.role.contains("store") || fault.role == "all") || fault.role == "both"
    };
    for fault in faults.iter().filter(store) {
        let row = table.entry((fault.role.clone(), fault.kind.clone())).or_default();
        // From the last write before the fault on.
        let first = ends.partition_point(|end| *end < fault.tried_ns).saturating_sub(1);
        let until = fault.tried_ns.saturating_add(LOOK_NS);
        let around = ends[first..].windows(2).take_while(|pair| pair[0] < until);
        match around.filter(|pair| pair[1] >= fault.tried_ns).map(|pair| pair[1] - pair[0]).max() {
            Some(gap) => row.took.push(gap),
            None => row.never += 1,
        }
    }
    table
}

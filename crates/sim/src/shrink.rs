//! Makes a failing plan smaller while it goes on failing in the same way: fewer faults, shorter ones, fewer processes. What is
//! left is what matters, mostly.

use std::time::Duration;

use crate::plan::{Plan, Role, Who};

/// The smallest plan that was found, and how many runs that took. `fails` runs a plan and says whether it still shows what is
/// looked for; at most `budget` runs are made.
pub fn shrink(plan: &Plan, budget: usize, mut fails: impl FnMut(&Plan) -> bool) -> (Plan, usize) {
    let mut best = plan.clone();
    let mut runs = 0;
    // Each success may make another step possible, so begin again from the boldest one.
    'again: loop {
        for smaller in smaller(&best) {
            if runs == budget {
                break 'again;
            }
            runs += 1;
            if fails(&smaller) {
                best = smaller;
                continue 'again;
            }
        }
        break;
    }
    (best, runs)
}

/// Plans that are a little smaller, the boldest first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let count = plan.faults.len();
    let mut piece = count;
    while piece > 0 {
        for from in (0..count).step_by(piece) {
            let mut less = plan.clone();
            less.faults.drain(from..(from + piece).min(count));
            plans.push(less);
        }
        piece /= 2;
    }
    let last = plan.faults.iter().map(|planned| planned.at + planned.lasts).max().unwrap_or_default();
    for shorter in [last, plan.faults_for / 2, plan.faults_for - plan.faults_for / 8] {
        if shorter < plan.faults_for && shorter >= Duration::from_millis(100) {
            plans.push(Plan { faults_for: round(shorter), ..plan.clone() });
        }
    }
    for (role, count) in &plan.cast {
        // A cluster has an odd number of nodes; the others go one by one.
        let step = if *role == Role::Node { 2 } else { 1 };
        let fewer = count.saturating_sub(step);
        let relays = plan.behind.values().copied().map(Who::node);
        let named = plan
            .faults
            .iter()
            .flat_map(|planned| planned.fault.names())
            .chain(relays)
            .any(|who| who.role == *role && who.number > fewer);
        if fewer < *count && fewer >= usize::from(*role == Role::Node) && !named {
            let mut less = plan.clone();
            less.cast.insert(*role, fewer);
            less.founders = less.founders.min(less.count(Role::Node));
            less.behind.retain(|who, _| who.role != *role || who.number <= fewer);
            plans.push(less);
        }
    }
    for who in plan.behind.keys() {
        let mut less = plan.clone();
        less.behind.remove(who);
        plans.push(less);
    }
    for at in 0..count {
        let lasts = plan.faults[at].lasts;
        if lasts > Duration::from_millis(20) {
            let mut shorter = plan.clone();
            shorter.faults[at].lasts = round(lasts / 2);
            plans.push(shorter);
        }
    }
    plans
}

/// To whole milliseconds: nobody wants to read more.
fn round(span: Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Fault;

    #[test]
    fn only_what_matters_is_left() {
        let wild = (0..)
            .map(Plan::draw)
            .find(|plan| plan.faults.len() > 6 && plan.faults.iter().any(|planned| planned.fault == Fault::CrashAll));
        let wild = wild.expect("some seed draws it");
        let (small, runs) =
            shrink(&wild, 1_000, |plan| plan.faults.iter().any(|planned| planned.fault == Fault::CrashAll));
        assert_eq!(small.faults.len(), 1, "after {runs} runs: {small}");
        assert!(small.faults[0].lasts <= Duration::from_millis(20));
        assert!(small.everybody().all(|who| who.role == Role::Node), "nobody else was needed");
        assert_eq!(small.to_string().parse(), Ok(small));
    }

    #[test]
    fn a_budget_is_kept() {
        let mut runs = 0;
        let plan = Plan::draw(1);
        shrink(&plan, 3, |_| {
            runs += 1;
            false
        });
        assert!(runs <= 3);
    }
}

//! The drawing of a plan. Quiet and wild seeds both occur: the character of a run is drawn first, then its faults.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Cut, Fault, Pattern, Plan, Planned, Role, Saved, Who};

/// The first part of a run is left alone, so that there is something to break.
const QUIET_AT_FIRST: u64 = 1_200;

/// Clocks run at most this wrong, in millionths: two of them together stay within the 1 % that clients take off a deadline.
const CLOCK_PPM: i32 = 4_000;

/// Wall clocks are set forward or back by up to an hour: longer than anything that the store measures.
const JUMP_MS: i64 = 3_600_000;

/// A restore takes so many milliseconds: all that holders believe is over then.
const RESTORE: std::ops::Range<u64> = 2_000..3_000;

/// A single link that is cut for long is cut for so many milliseconds.
const LONG_LINK: std::ops::Range<u64> = 30_000..40_000;

impl Plan {
    /// Draws a plan.
    pub fn draw(seed: u64) -> Plan {
        let mut rng = SmallRng::seed_from_u64(seed);
        let cast = draw_cast(&mut rng);
        let least = Duration::from_micros(rng.random_range(200..2_000));
        let most = least + Duration::from_micros(rng.random_range(500..10_000));
        let faults_for = Duration::from_millis(rng.random_range(5_000..10_000));
        let mut plan = Plan {
            seed,
            founders: cast[&Role::Node],
            cast,
            behind: BTreeMap::new(),
            latency: (least, most),
            // One disk in three is slow: what is acknowledged before it is synced is then easily lost.
            sync_every: match rng.random_range(0..3) {
                0 => Duration::from_micros(rng.random_range(10_000..40_000)),
                _ => Duration::from_micros(rng.random_range(500..6_000)),
            },
            snapshot_every: rng.random_range(20..400),
            faults_for,
            faults: Vec::new(),
        };
        plan.faults = match rng.random_range(0..10) {
            // Nothing but one link that is cut for long: it must depose nobody.
            0 => vec![draw_lonely_link(&mut rng, &plan)],
            // One fault again and again.
            1..=2 => {
                let fault = draw_fault(&mut rng, &plan);
                (0..rng.random_range(2..6)).flat_map(|_| draw_time(&mut rng, &plan, fault.clone())).collect()
            }
            // Few faults, one after the other.
            3..=6 => draw_faults(&mut rng, &plan, 1..4),
            // Many at once.
            _ => draw_faults(&mut rng, &plan, 5..14),
        };
        // A wiped node is gone for good, and a majority must be left; the second one finds nothing to wipe.
        let mut wiped = false;
        plan.faults.retain(|planned| !matches!(planned.fault, Fault::Wipe(_)) || !std::mem::replace(&mut wiped, true));
        plan.faults.sort_by_key(|planned| planned.at);
        // What was added to the drawing later comes last: the rest of a seed's plan is what it was.
        plan.cast.insert(Role::Caller, rng.random_range(0..2));
        draw_behind(&mut rng, &mut plan);
        draw_partial(&mut rng, &mut plan);
        draw_changes(&mut rng, &mut plan);
        draw_long_link(&mut rng, &mut plan);
        draw_restores(&mut rng, &mut plan);
        draw_upgrade(&mut rng, &mut plan);
        plan.faults.sort_by_key(|planned| planned.at);
        plan
    }
}

fn draw_cast(rng: &mut SmallRng) -> BTreeMap<Role, usize> {
    let nodes = if rng.random_range(0..4) == 0 { 5 } else { 3 };
    let mut cast: BTreeMap<_, _> = [
        (Role::Node, nodes),
        (Role::Candidate, rng.random_range(2..4)),
        (Role::Writer, rng.random_range(1..4)),
        (Role::Duplicator, rng.random_range(0..2)),
        (Role::Transactor, rng.random_range(0..3)),
        (Role::Observer, rng.random_range(1..3)),
        (Role::Watcher, rng.random_range(0..3)),
        (Role::Administrator, rng.random_range(0..2)),
    ]
    .into();
    // One run in three is about the store alone.
    match rng.random_range(0..3) {
        0 => {}
        1 => cast.extend([(Role::Ledger, rng.random_range(2..4)), (Role::Repeater, 1)]),
        _ => cast.extend([(Role::JobManager, 2), (Role::TaskExecutor, 2), (Role::Submitter, 1)]),
    }
    cast
}

/// In one run of three some reach the store through one node only: their calls are forwarded and their sessions relayed.
fn draw_behind(rng: &mut SmallRng, plan: &mut Plan) {
    let node = rng.random_range(1..=plan.count(Role::Node));
    let wiped = plan.faults.iter().any(|planned| planned.fault == Fault::Wipe(node));
    // A wiped node is gone for good, and everybody behind it.
    if rng.random_range(0..3) > 0 || wiped {
        return;
    }
    // Who leads ledgers observes who leads, and a client observes at the store leader alone.
    let calls = plan.count(Role::Ledger) > 0;
    let may_be = |who: &Who| who.role.may_be_behind() && !(calls && who.role == Role::Candidate);
    for who in plan.everybody().filter(may_be).collect::<Vec<_>>() {
        if rng.random_range(0..2) == 0 {
            plan.behind.insert(who, node);
        }
    }
}

/// In some runs of five nodes one is down, and the store leader hears only one other, who hears everybody: the rest must not be
/// kept from electing another by whom that one still hears (openraft #2080).
fn draw_partial(rng: &mut SmallRng, plan: &mut Plan) {
    if plan.founders < 5 || rng.random_range(0..3) > 0 {
        return;
    }
    let (leads, hears) = two_nodes(rng, plan);
    let down = (1..=plan.founders).map(Who::node).find(|who| *who != leads && *who != hears);
    let ms = |at: u64| Duration::from_millis(at);
    let fault = |at: u64, lasts: u64, fault| Planned { at: ms(at), lasts: ms(lasts), fault };
    let cut = Fault::Cut(Pattern::Only(leads.number, hears.number), Cut::Drop);
    // Nothing else, so that what follows can be judged.
    plan.faults = vec![fault(1_500, 20, Fault::TransferStoreLeader(leads.number)), fault(2_500, 6_000, cut)];
    plan.faults.extend(down.map(|down| fault(2_400, 6_200, Fault::Crash(down))));
    plan.faults_for = ms(9_000);
}

/// In one run of three somebody changes who belongs to the cluster; and there are nodes to add.
fn draw_changes(rng: &mut SmallRng, plan: &mut Plan) {
    if rng.random_range(0..3) > 0 {
        return;
    }
    plan.cast.insert(Role::Operator, 1);
    let nodes = plan.founders + rng.random_range(1..=2);
    plan.cast.insert(Role::Node, nodes);
    for spare in plan.founders + 1..=nodes {
        let fault = match rng.random_range(0..6) {
            0 => Fault::Crash(Who::node(spare)),
            1 => Fault::Pause(Who::node(spare)),
            2 => Fault::Cut(Pattern::Isolate(Who::node(spare)), Cut::Drop),
            3 => Fault::TransferStoreLeader(spare),
            _ => continue,
        };
        let planned = draw_time(rng, plan, fault);
        plan.faults.extend(planned);
    }
    if rng.random_range(0..3) == 0 {
        // A rolling restart.
        let first = rng.random_range(QUIET_AT_FIRST..4_000);
        plan.faults.extend((1..=nodes).map(|node| {
            let at = Duration::from_millis(first + 700 * node as u64);
            Planned { at, lasts: Duration::from_millis(300), fault: Fault::Restart(node) }
        }));
    }
}

fn draw_faults(rng: &mut SmallRng, plan: &Plan, count: std::ops::Range<usize>) -> Vec<Planned> {
    let count = rng.random_range(count);
    (0..count)
        .flat_map(|_| {
            let fault = draw_fault(rng, plan);
            draw_time(rng, plan, fault)
        })
        .collect()
}

/// A fault with its time, and what follows it: many a link is slow for a while and then dead.
fn draw_time(rng: &mut SmallRng, plan: &Plan, fault: Fault) -> Vec<Planned> {
    let last = plan.faults_for.as_millis() as u64;
    let at = Duration::from_millis(rng.random_range(QUIET_AT_FIRST..last));
    let lasts = Duration::from_millis(match rng.random_range(0..3) {
        0 => rng.random_range(20..400),
        _ => rng.random_range(400..3_000),
    });
    let dies = match &fault {
        Fault::Lag(pattern, _) if rng.random_range(0..2) == 0 => {
            let at = at + Duration::from_millis(rng.random_range(0..=lasts.as_millis() as u64));
            let lasts = Duration::from_millis(rng.random_range(400..3_000));
            Some(Planned { at, lasts, fault: Fault::Cut(pattern.clone(), Cut::Drop) })
        }
        _ => None,
    };
    [Planned { at, lasts, fault }].into_iter().chain(dies).collect()
}

fn draw_lonely_link(rng: &mut SmallRng, plan: &Plan) -> Planned {
    let (one, other) = two_nodes(rng, plan);
    let cut = if rng.random_range(0..2) == 0 { Cut::Drop } else { Cut::Hold };
    let lasts = plan.faults_for - Duration::from_millis(3_000);
    Planned { at: Duration::from_millis(3_000), lasts, fault: Fault::Cut(Pattern::Link(one, other), cut) }
}

/// In some runs a backup of the cluster is saved again and again, and a new cluster begins with one: once, or twice with the same one;
/// and a machine of the old one is switched on beside it. Jobs are left out, for they would be lost with what stands in no backup; so
/// are runs about something that a restore would put right.
fn draw_restores(rng: &mut SmallRng, plan: &mut Plan) {
    let is_about_links =
        |planned: &Planned| matches!(planned.fault, Fault::Cut(Pattern::Link(..) | Pattern::Only(..), _));
    let others = plan.count(Role::TaskExecutor) + plan.count(Role::Operator) > 0;
    if rng.random_range(0..4) > 0 || others || plan.faults.iter().any(is_about_links) {
        return;
    }
    plan.cast.insert(Role::Archivist, 1);
    let twice = rng.random_range(0..3) == 0;
    let saved = if twice { Saved::First } else { Saved::Last };
    let ms = Duration::from_millis;
    let mut at = ms(rng.random_range(2_500..5_000));
    for _ in 0..1 + usize::from(twice) {
        let lasts = ms(rng.random_range(RESTORE));
        plan.faults.push(Planned { at, lasts, fault: Fault::Restore(saved) });
        at += lasts + ms(rng.random_range(1_500..3_000));
        if rng.random_range(0..2) == 0 {
            let node = rng.random_range(1..=plan.founders);
            plan.faults.push(Planned { at, lasts: ms(rng.random_range(500..2_000)), fault: Fault::Revive(node) });
            at += ms(1_000);
        }
    }
    plan.faults_for = plan.faults_for.max(at);
}

/// In half of the runs in which somebody changes who belongs to the cluster, its first nodes get a newer program, one after the other,
/// and he raises the level as soon as he may. Those that are added have the older one; in half of these runs they get the newer one, too,
/// so that he may in the end.
fn draw_upgrade(rng: &mut SmallRng, plan: &mut Plan) {
    if plan.count(Role::Operator) == 0 || rng.random_range(0..2) > 0 {
        return;
    }
    let first = rng.random_range(QUIET_AT_FIRST..4_000);
    let nodes = if rng.random_range(0..2) == 0 { plan.founders } else { plan.count(Role::Node) };
    plan.faults.extend((1..=nodes).map(|node| {
        let at = Duration::from_millis(first + 800 * node as u64);
        Planned { at, lasts: Duration::from_millis(300), fault: Fault::Upgrade(node) }
    }));
    let last = plan.faults.last().map(|planned| planned.at + planned.lasts).unwrap_or_default();
    plan.faults_for = plan.faults_for.max(last + Duration::from_millis(1_500));
}

/// In one of four runs that are about a single link it is cut for half a minute and more: as long as anybody would take who was to see
/// to it, and a hundred election timeouts. Not in all of them, for all that time is simulated.
fn draw_long_link(rng: &mut SmallRng, plan: &mut Plan) {
    let lasts = Duration::from_millis(rng.random_range(LONG_LINK));
    if rng.random_range(0..4) > 0 {
        return;
    }
    if let [Planned { at, lasts: shorter, fault: Fault::Cut(Pattern::Link(..), _) }] = plan.faults.as_mut_slice()
        && *at + *shorter == plan.faults_for
    {
        *shorter = lasts;
        plan.faults_for = *at + lasts;
    }
}

fn draw_fault(rng: &mut SmallRng, plan: &Plan) -> Fault {
    if plan.count(Role::Ledger) > 0 && rng.random_range(0..3) == 0 {
        return draw_fault_of_calls(rng, plan);
    }
    if plan.count(Role::TaskExecutor) > 0 && rng.random_range(0..4) == 0 {
        return draw_fault_of_jobs(rng, plan);
    }
    let nodes = plan.count(Role::Node);
    let node = rng.random_range(1..=nodes);
    match rng.random_range(0..44) {
        0..=5 => Fault::Crash(Who::node(node)),
        6..=9 => Fault::CrashAll,
        10..=12 => Fault::Crash(somebody(rng, plan, |role| role != Role::Node && role.may_crash())),
        13..=14 => Fault::Restart(node),
        15..=17 => Fault::Pause(Who::node(node)),
        18..=19 => Fault::Pause(somebody(rng, plan, |role| role != Role::Node && role.may_crash())),
        20..=27 => draw_cut(rng, plan),
        28..=29 => Fault::SlowDisk(node),
        30 => Fault::FailSync(node),
        31 => Fault::LowDisk(node),
        32 => Fault::FillDisk(node),
        33 => Fault::Wipe(node),
        34..=35 => {
            let who = somebody(rng, plan, Role::may_crash);
            Fault::ClockRate(who, rng.random_range(-CLOCK_PPM..=CLOCK_PPM))
        }
        36..=37 => Fault::TransferStoreLeader(node),
        38 => Fault::ClockJump(somebody(rng, plan, |_| true), rng.random_range(-JUMP_MS..=JUMP_MS)),
        39..=41 => draw_lag(rng, plan),
        _ => Fault::Cut(Pattern::Isolate(somebody(rng, plan, |role| role != Role::Node)), Cut::Hold),
    }
}

/// What makes the calls of leaders late, or leaders and ledgers believe what is no longer true.
fn draw_fault_of_calls(rng: &mut SmallRng, plan: &Plan) -> Fault {
    let candidate = somebody(rng, plan, |role| role == Role::Candidate);
    let ledger = somebody(rng, plan, |role| role == Role::Ledger);
    match rng.random_range(0..9) {
        0..=1 => Fault::Cut(Pattern::Link(candidate, ledger), Cut::Hold),
        2 => Fault::Cut(Pattern::Link(candidate, ledger), Cut::Drop),
        3 => Fault::Cut(Pattern::FromStore(candidate), Cut::Drop),
        4 => Fault::Cut(Pattern::FromStore(ledger), Cut::Drop),
        5 => Fault::Pause(candidate),
        6 => Fault::Pause(ledger),
        7 => Fault::FillFiles(ledger),
        _ => Fault::Crash(ledger),
    }
}

/// Likewise of JobManagers and TaskExecutors; what one of them sends another may come when both have moved on.
fn draw_fault_of_jobs(rng: &mut SmallRng, plan: &Plan) -> Fault {
    let of_jobs = |role| matches!(role, Role::JobManager | Role::TaskExecutor);
    let (one, executor) = (somebody(rng, plan, of_jobs), somebody(rng, plan, |role| role == Role::TaskExecutor));
    let cut = if rng.random_range(0..2) == 0 { Cut::Hold } else { Cut::Drop };
    match rng.random_range(0..10) {
        0..=3 if one != executor => Fault::Cut(Pattern::Link(one, executor), cut),
        0..=3 => Fault::Cut(Pattern::Isolate(executor), cut),
        4..=5 => Fault::Cut(Pattern::FromStore(one), cut),
        6 => Fault::Pause(one),
        7..=8 => Fault::FillFiles(one),
        _ => Fault::Crash(one),
    }
}

fn draw_cut(rng: &mut SmallRng, plan: &Plan) -> Fault {
    let nodes = plan.count(Role::Node);
    let cut = if rng.random_range(0..3) == 0 { Cut::Hold } else { Cut::Drop };
    let pattern = match rng.random_range(0..18) {
        0..=2 => Pattern::Isolate(somebody(rng, plan, |_| true)),
        4 | 5 | 12..=17 if nodes > 3 => Pattern::Ring,
        3 | 4 => {
            let first = rng.random_range(1..=nodes);
            Pattern::Halves((0..nodes / 2).map(|step| (first + step - 1) % nodes + 1).collect())
        }
        5 | 6 => Pattern::Bridge(rng.random_range(1..=nodes)),
        7..=8 => {
            let (from, to) = two_nodes(rng, plan);
            return Fault::Cut(Pattern::OneWay(from, to), Cut::Drop);
        }
        9..=10 => draw_apart(rng, plan),
        _ => {
            let (one, other) = two_nodes(rng, plan);
            Pattern::Link(one, other)
        }
    };
    Fault::Cut(pattern, cut)
}

/// A minority of the nodes, and half of everybody else.
fn draw_apart(rng: &mut SmallRng, plan: &Plan) -> Pattern {
    let nodes = plan.count(Role::Node);
    let (first, many) = (rng.random_range(1..=nodes), rng.random_range(1..=nodes / 2));
    let minority = (0..many).map(|step| Who::node((first + step - 1) % nodes + 1));
    let others = plan.everybody().filter(|who| who.role != Role::Node);
    Pattern::Apart(minority.chain(others.filter(|_| rng.random_range(0..2) == 0)).collect())
}

/// A link, or all links of a process: some of it so slow that a keep-alive is not back before the next one is due.
fn draw_lag(rng: &mut SmallRng, plan: &Plan) -> Fault {
    let lag = Duration::from_millis(rng.random_range(20..200));
    let pattern = match rng.random_range(0..4) {
        0 => {
            let (one, other) = two_nodes(rng, plan);
            Pattern::Link(one, other)
        }
        1 => Pattern::Isolate(somebody(rng, plan, |_| true)),
        _ => Pattern::FromStore(somebody(rng, plan, |role| role != Role::Node)),
    };
    Fault::Lag(pattern, lag)
}

fn two_nodes(rng: &mut SmallRng, plan: &Plan) -> (Who, Who) {
    let nodes = plan.count(Role::Node);
    let one = rng.random_range(1..=nodes);
    let other = (one - 1 + rng.random_range(1..nodes)) % nodes + 1;
    (Who::node(one), Who::node(other))
}

/// Roles first, so that many of one role do not draw all the fire.
fn somebody(rng: &mut SmallRng, plan: &Plan, of: impl Fn(Role) -> bool) -> Who {
    let roles: Vec<_> = plan.cast.iter().filter(|(role, count)| of(**role) && **count > 0).collect();
    let (role, count) = roles[rng.random_range(0..roles.len())];
    Who { role: *role, number: rng.random_range(1..=*count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(Plan::draw(7), Plan::draw(7));
        assert_ne!(Plan::draw(7).faults, Plan::draw(8).faults);
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let kinds: std::collections::BTreeSet<_> =
            (0..500).flat_map(|seed| Plan::draw(seed).faults).map(|planned| planned.fault.kind()).collect();
        assert_eq!(kinds, Fault::KINDS.into());
    }

    #[test]
    fn some_are_behind_one_node_and_never_behind_one_that_is_gone() {
        let plans: Vec<_> = (0..200).map(Plan::draw).filter(|plan| !plan.behind.is_empty()).collect();
        assert!(plans.len() > 20);
        let gone = |plan: &Plan, node: usize| plan.faults.iter().any(|planned| planned.fault == Fault::Wipe(node));
        assert!(plans.iter().all(|plan| !plan.behind.values().any(|node| gone(plan, *node))));
    }

    #[test]
    fn some_single_links_are_cut_for_half_a_minute() {
        let is_long = |plan: &Plan| {
            let [Planned { lasts, fault: Fault::Cut(Pattern::Link(..), _), .. }] = plan.faults.as_slice() else {
                return false;
            };
            lasts.as_millis() >= u128::from(LONG_LINK.start)
        };
        let long = (1..=100).map(Plan::draw).filter(is_long).count();
        assert!((1..=6).contains(&long), "{long} of a hundred runs take that long");
    }

    #[test]
    fn quiet_and_wild_runs_occur() {
        let counts: Vec<_> = (0..100).map(|seed| Plan::draw(seed).faults.len()).collect();
        assert!(counts.contains(&1) && counts.iter().any(|count| *count > 9));
    }
}

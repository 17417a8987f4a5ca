//! Tests of what changes of the members are allowed.

use super::*;

/// Nodes 1 to `voters` vote, answer and have everything; node 1 leads.
fn view(voters: u64) -> View {
    let node = |id: u64| (id, Node { address: format!("n{id}:1"), store_id: id * 10, highest_id: 0 });
    let voters: BTreeSet<u64> = (1..=voters).collect();
    View {
        own_id: 1,
        nodes: voters.iter().copied().map(node).collect(),
        live: voters.clone(),
        behind: voters.iter().map(|id| (*id, 0)).collect(),
        voters,
    }
}

fn add(node_id: u64) -> Change {
    Change::Add { node_id, address: format!("n{node_id}:1") }
}

fn bind(node_id: u64) -> Change {
    Change::Bind { node_id, store_id: node_id * 10, address: format!("n{node_id}:1") }
}

fn promote(node_id: u64) -> Change {
    Change::Promote { node_id }
}

fn remove(node_id: u64) -> Change {
    Change::Remove { node_id }
}

/// Makes a change as often as it takes.
fn make(view: &mut View, change: &Change) -> Result<(), Refusal> {
    loop {
        match decide(view, change)? {
            Step::Nothing => return Ok(()),
            Step::Describe(nodes) => view.nodes.extend(nodes),
            Step::Write { voters, nodes } => {
                let moved = view.voters.symmetric_difference(&voters).count();
                assert!(moved <= 1, "{moved} nodes more or less vote after {change:?}");
                assert!(nodes.iter().all(|(id, node)| view.nodes.get(id).is_none_or(|known| known == node)));
                (view.voters, view.nodes) = (voters, nodes);
            }
            Step::HandOver => panic!("node {} leads", view.own_id),
        }
    }
}

/// As [`make`], and then the new node answers and has everything.
fn grow(view: &mut View, node_id: u64) {
    make(view, &add(node_id)).unwrap();
    make(view, &bind(node_id)).unwrap();
    view.live.insert(node_id);
    view.behind.insert(node_id, 3);
    make(view, &promote(node_id)).unwrap();
}

fn refusal(view: &View, change: &Change) -> String {
    decide(view, change).expect_err("it must be refused").to_string()
}

#[test]
fn a_cluster_grows_and_shrinks_one_node_at_a_time() {
    let mut view = view(1);
    for id in 2..=5 {
        grow(&mut view, id);
    }
    assert_eq!(view.voters, (1..=5).collect());
    for id in [5, 3, 4, 2] {
        make(&mut view, &remove(id)).unwrap();
    }
    assert_eq!((view.voters.len(), view.nodes.len()), (1, 1));
    assert_eq!(refusal(&view, &remove(1)), "node 1 is the only one that votes");
}

#[test]
fn every_change_may_be_asked_for_again() {
    let mut view = view(3);
    for change in [add(4), bind(4)] {
        make(&mut view, &change).unwrap();
        assert_eq!(decide(&view, &change), Ok(Step::Nothing), "{change:?}");
    }
    view.live.insert(4);
    view.behind.insert(4, 0);
    for change in [promote(4), remove(4)] {
        make(&mut view, &change).unwrap();
        assert_eq!(decide(&view, &change), Ok(Step::Nothing), "{change:?}");
    }
}

fn an_id_is_never_used_again() {
    let mut view = view(3);
    // The highest id: who remains remembers it.
    make(&mut view, &remove(3)).unwrap();
    assert!(refusal(&view, &add(3)).contains("give it an id above 3"));
    grow(&mut view, 7);
    make(&mut view, &remove(7)).unwrap();
    assert!(refusal(&view, &add(5)).contains("give it an id above 7"), "{view:?}");
    // Whoever remembered it goes, too.
    grow(&mut view, 8);
    view.own_id = 8;
    for id in [1, 2] {
        make(&mut view, &remove(id)).unwrap();
    }
    assert!(refusal(&view, &add(2)).contains("give it an id above 8"));
}

#[test]
fn an_id_that_was_ever_used_is_refused() {
    an_id_is_never_used_again();
}

fn only_a_node_that_is_bound_answers_and_has_caught_up_may_vote() {
    let mut view = view(3);
    make(&mut view, &add(4)).unwrap();
    (view.live, view.behind) = ((1..=4).collect(), (1..=4).map(|id| (id, 0)).collect());
    assert!(refusal(&view, &promote(4)).contains("has not joined yet: start it there with --id 4 --join"));
    make(&mut view, &bind(4)).unwrap();
    view.live.remove(&4);
    assert!(refusal(&view, &promote(4)).contains("node 4 (n4:1) does not answer"));
    view.live.insert(4);
    view.behind.insert(4, CAUGHT_UP + 1);
    assert!(refusal(&view, &promote(4)).contains("1001 log entries behind"));
    view.behind.remove(&4);
    assert!(refusal(&view, &promote(4)).contains("it is not known how far"));
    view.behind.insert(4, CAUGHT_UP);
    assert!(matches!(decide(&view, &promote(4)), Ok(Step::Write { .. })));
    assert!(refusal(&view, &promote(5)).contains("node 5 is not a member"));
}

#[test]
fn a_node_votes_only_when_it_is_fit() {
    only_a_node_that_is_bound_answers_and_has_caught_up_may_vote();
}

#[test]
fn a_store_is_bound_once_and_to_one_node() {
    let mut view = view(3);
    make(&mut view, &add(4)).unwrap();
    let other = |store_id, address: &str| Change::Bind { node_id: 4, store_id, address: address.to_owned() };
    assert!(refusal(&view, &other(40, "n4:2")).contains("node 4 was added with the address n4:1"));
    assert!(refusal(&view, &other(20, "n4:1")).contains("is node 2's"));
    make(&mut view, &bind(4)).unwrap();
    assert!(refusal(&view, &other(41, "n4:1")).contains("another store"));
    assert!(
        refusal(&view, &Change::Bind { node_id: 9, store_id: 90, address: "n9:1".to_owned() }).contains("not a member")
    );
}

#[test]
fn a_majority_that_answers_must_remain() {
    let mut view = view(3);
    view.live.remove(&3);
    let words = refusal(&view, &remove(2));
    assert!(words.contains("1 of 2 voters would answer") && words.contains("node 3"), "{words}");
    assert!(matches!(decide(&view, &remove(3)), Ok(Step::Describe(_))), "the silent one may go");
    // Two of four, and of three.
    let mut four = self::view(4);
    (four.live, four.own_id) = ([1, 2].into(), 1);
    assert!(refusal(&four, &remove(2)).contains("1 of 3"));
    make(&mut four, &remove(4)).unwrap();
    make(&mut four, &remove(3)).unwrap();
    assert_eq!(four.voters, [1, 2].into());
    // A learner costs nobody a majority.
    make(&mut view, &add(4)).unwrap();
    make(&mut view, &remove(4)).unwrap();
}

#[test]
fn a_new_voter_must_not_cost_the_majority() {
    let mut view = view(3);
    make(&mut view, &add(4)).unwrap();
    make(&mut view, &bind(4)).unwrap();
    (view.live, view.behind) = ([1, 2, 4].into(), (1..=4).map(|id| (id, 0)).collect());
    assert!(matches!(decide(&view, &promote(4)), Ok(Step::Write { .. })), "three of four answer");
    view.live = [1, 4].into();
    assert!(refusal(&view, &promote(4)).contains("2 of 4 voters would answer"));
}

#[test]
fn the_store_leader_hands_over_before_it_goes() {
    let mut view = view(3);
    assert_eq!(decide(&view, &remove(1)), Ok(Step::HandOver));
    view.behind = [(1, 0), (2, 5), (3, 9)].into();
    assert_eq!(view.successor(), Some(2), "the least behind");
    view.behind.insert(3, 5);
    assert_eq!(view.successor(), Some(3), "of equals the highest id");
    view.live = [1, 2].into();
    assert_eq!(view.successor(), Some(2), "one that answers");
    view.live = [1].into();
    assert!(refusal(&view, &remove(1)).contains("0 of 2"), "nobody hands over for a change that cannot be made");
    assert_eq!(view.successor(), None);
}

#[test]
fn sizes_and_addresses_are_bounded() {
    let mut view = view(9);
    make(&mut view, &add(10)).unwrap();
    make(&mut view, &bind(10)).unwrap();
    view.live.insert(10);
    view.behind.insert(10, 0);
    assert_eq!(refusal(&view, &promote(10)), "a cluster has at most 9 voters");
    let taken = Change::Add { node_id: 11, address: "n3:1".to_owned() };
    assert!(refusal(&view, &taken).contains("n3:1 is the address of node 3"));
    let moved = Change::Add { node_id: 10, address: "n10:2".to_owned() };
    assert!(refusal(&view, &moved).contains("node 10 was added with the address n10:1"));
    for id in 11..=18 {
        make(&mut view, &add(id)).unwrap();
    }
    assert_eq!(refusal(&view, &add(19)), "a cluster has at most 18 nodes");
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bugs_that_use_an_id_again_and_count_an_unbound_learner_are_caught() {
    let why = palisade_planted::caught(Bug::NodeIdUsedAgain, an_id_is_never_used_again);
    assert!(why.is_some_and(|why| why.contains("it must be refused")));
    let check = only_a_node_that_is_bound_answers_and_has_caught_up_may_vote;
    let why = palisade_planted::caught(Bug::UnboundLearnerCounts, check);
    assert!(why.is_some_and(|why| why.contains("it must be refused")));
}

//! What one look at the state brings, on a state without a node.

use palisade_coord_core::limits::MAX_TOLD_PER_ELECTION;
use palisade_coord_core::{Command, OnDisconnect, Op, Reply, Serial, SessionId, Value, apply};
use palisade_fence::{ClusterId, Token};
use palisade_wire::coord::v1::observe_event::Kind as Told;

use super::*;

/// Founded, with a session that leads `e`.
fn led() -> (State, SessionId, Token) {
    let mut state = State::new();
    run(&mut state, Op::Found { cluster: ClusterId(7) });
    let open = Op::OpenSession { id: None, ttl_ms: 1_000, on_disconnect: OnDisconnect::KeepUntilTtl };
    let Reply::SessionOpened { session, .. } = run(&mut state, open) else { panic!("it opens a session") };
    let Reply::Campaigned { grant: Some(grant) } = run(&mut state, campaign(session, 1)) else { panic!("it leads") };
    (state, session, grant.token)
}

fn campaign(session: SessionId, serial: u64) -> Op {
    let (election, candidate) = ("e".to_owned(), "a".to_owned());
    Op::Campaign { session, serial: Serial(serial), election, candidate, value: Value::default(), priority: 0 }
}

fn proclaim(state: &mut State, token: Token, what: u64) {
    let value = Value { address: what.to_string(), ..Value::default() };
    run(state, Op::Proclaim { election: "e".to_owned(), token, value });
}

fn run(state: &mut State, op: Op) -> Reply {
    apply(state, &Command::new(0, op)).reply.expect("it is not refused")
}

fn from(generation: Option<u32>, seq: u64) -> Option<ObserveFrom> {
    Some(ObserveFrom { generation, seq: Seq(seq) })
}

fn seqs(seen: &Seen) -> Vec<u64> {
    seen.replies.iter().map(|reply| reply.header.as_ref().expect("each has one").seq).collect()
}

/// The only message is a gap and the present state.
#[track_caller]
fn is_gap(seen: &Seen, state: &State, why: &str) {
    let [reply] = &seen.replies[..] else { panic!("{:?}", seen.replies) };
    assert_eq!((reply.header, seen.after, seen.rest), (Some(convert::header(state)), state.seq(), Rest::None));
    match &reply.events.iter().map(|event| event.kind.as_ref().expect("one is there")).collect::<Vec<_>>()[..] {
        [Told::Gap(gap), Told::State(present)] => {
            assert_eq!(gap.why, why);
            assert_eq!(gap.complete_after_seq, state.told().complete_after("e").get());
            assert_eq!(present.leader, state.leader("e").map(convert::grant));
        }
        other => panic!("expected a gap and the state, got {other:?}"),
    }
}

#[test]
fn an_observer_that_resumes_is_told_what_followed_and_no_state() {
    let (mut state, session, token) = led();
    let granted = state.seq().get();
    proclaim(&mut state, token, 1);
    run(&mut state, Op::EndSession { session, why: palisade_coord_core::EndReason::Closed, only_if: None });
    run(&mut state, Op::OpenSession { id: None, ttl_ms: 1_000, on_disconnect: OnDisconnect::KeepUntilTtl });

    let seen = first(&state, "e", from(Some(0), granted));
    assert_eq!((seqs(&seen), seen.after, seen.rest), (vec![granted + 1, granted + 2], state.seq(), Rest::None));
    let kinds: Vec<_> = seen.replies.iter().flat_map(|reply| &reply.events).map(|event| event.kind.clone()).collect();
    assert!(matches!(&kinds[..], [Some(Told::ValueChanged(_)), Some(Told::Vacant(vacant))] if vacant.why == "closed"));
    // Exclusive; from the very beginning; and of an election that nobody has heard of.
    assert_eq!(seqs(&first(&state, "e", from(None, granted + 2))), [] as [u64; 0]);
    assert_eq!(seqs(&first(&state, "e", from(None, 0))), [granted, granted + 1, granted + 2]);
    assert_eq!(seqs(&first(&state, "never", from(None, 0))), [] as [u64; 0]);
    assert_eq!(seqs(&first(&state, "e", None)), [state.seq().get()], "the state");
}

#[test]
fn a_gap_is_told_where_the_past_is_gone_or_of_another_cluster_life() {
    let (mut state, _, token) = led();
    let granted = state.seq().get();
    is_gap(&first(&state, "e", from(Some(1), granted)), &state, "generation");
    is_gap(&first(&state, "e", from(None, granted + 1)), &state, "ahead");
    for what in 0..MAX_TOLD_PER_ELECTION as u64 {
        proclaim(&mut state, token, what);
    }
    is_gap(&first(&state, "e", from(None, granted - 1)), &state, "compacted");
    assert_eq!(first(&state, "e", from(None, granted)).replies.len(), BATCH, "the grant itself is the last that went");
}

#[test]
fn a_long_past_comes_in_parts_each_event_once_and_what_is_forgotten_between_them_is_a_gap() {
    let (mut state, _, token) = led();
    let granted = state.seq().get();
    let count = BATCH as u64 * 2 + 3;
    for what in 0..count {
        proclaim(&mut state, token, what);
    }
    let mut seen = first(&state, "e", from(None, granted));
    let mut all = seqs(&seen);
    while seen.rest == Rest::Some {
        seen = onward(&state, "e", seen.after);
        all.extend(seqs(&seen));
    }
    assert_eq!(all, (granted + 1..=granted + count).collect::<Vec<_>>());
    assert_eq!(seen.after, state.seq());

    let seen = first(&state, "e", from(None, granted));
    for what in 0..MAX_TOLD_PER_ELECTION as u64 {
        proclaim(&mut state, token, what);
    }
    is_gap(&onward(&state, "e", seen.after), &state, "compacted");
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_tells_of_no_gap_is_caught() {
    let check = a_gap_is_told_where_the_past_is_gone_or_of_another_cluster_life;
    assert!(palisade_planted::caught(Bug::GapUntold, check).is_some());
}

//! The state refuses to grow beyond its limits, in words, and stays sound.

use palisade_coord_core::limits::{MAX_CANDIDACIES, MAX_CANDIDATES, MAX_ELECTIONS, MAX_SESSIONS};
use palisade_coord_core::{Command, OnDisconnect, Op, Refusal, Reply, Serial, SessionId, State, Value, apply};

fn open(state: &mut State) -> Result<Reply, Refusal> {
    let op = Op::OpenSession { ttl_ms: 2_000, on_disconnect: OnDisconnect::KeepUntilTtl };
    apply(state, &Command::new(0, op)).reply
}

fn campaign(state: &mut State, session: u64, serial: u64, election: String, candidate: String) -> Option<Refusal> {
    let (session, serial, value) = (SessionId(session), Serial(serial), Value::default());
    let op = Op::Campaign { session, serial, election, candidate, value, priority: 0 };
    apply(state, &Command::new(0, op)).reply.err()
}

#[test]
fn sessions_are_limited() {
    let mut state = State::new();
    for _ in 0..MAX_SESSIONS {
        open(&mut state).unwrap();
    }
    assert_eq!(open(&mut state), Err(Refusal::Limit { what: "sessions", limit: MAX_SESSIONS }));
    state.check_invariants();
}

#[test]
fn elections_are_limited() {
    let mut state = State::new();
    for n in 0..MAX_ELECTIONS {
        if n % MAX_CANDIDACIES == 0 {
            open(&mut state).unwrap();
        }
        let session = state.last_session().get();
        assert_eq!(campaign(&mut state, session, n + 1, format!("e{n}"), "a".to_owned()), None);
    }
    let refused = Some(Refusal::Limit { what: "elections", limit: MAX_ELECTIONS });
    open(&mut state).unwrap();
    let session = state.last_session().get();
    assert_eq!(campaign(&mut state, session, 1, "new".to_owned(), "a".to_owned()), refused);
    assert_eq!(campaign(&mut state, session, 2, "e0".to_owned(), "b".to_owned()), None);
    state.check_invariants();
}

#[test]
fn candidates_of_one_election_are_limited() {
    let mut state = State::new();
    // One leads; the others wait.
    for n in 0..=MAX_CANDIDATES {
        if n % MAX_CANDIDACIES == 0 {
            open(&mut state).unwrap();
        }
        let session = state.last_session().get();
        assert_eq!(campaign(&mut state, session, n + 1, "jobs".to_owned(), format!("c{n}")), None);
    }
    open(&mut state).unwrap();
    let session = state.last_session().get();
    let refused = Some(Refusal::Limit { what: "candidates of the election", limit: MAX_CANDIDATES });
    assert_eq!(campaign(&mut state, session, 1, "jobs".to_owned(), "late".to_owned()), refused);
    state.check_invariants();
}

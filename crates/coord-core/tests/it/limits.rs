//! The state refuses to grow beyond its limits, in words, and stays sound.

use palisade_coord_core::limits::{MAX_CANDIDACIES, MAX_CANDIDACY_BYTES, MAX_CANDIDATES, MAX_ELECTIONS, MAX_SESSIONS};
use palisade_coord_core::{
    Command, EndReason, OnDisconnect, Op, Refusal, Reply, Serial, SessionId, State, Value, apply,
};

fn open(state: &mut State) -> Result<Reply, Refusal> {
    let op = Op::OpenSession { id: None, ttl_ms: 2_000, on_disconnect: OnDisconnect::KeepUntilTtl };
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

#[test]
fn bytes_of_candidacies_are_limited() {
    const LEADERS: u64 = 8;
    let mut state = State::new();
    let refused = Refusal::Limit { what: "bytes of candidacies", limit: MAX_CANDIDACY_BYTES };
    let with = |bytes: u64| Value { data: vec![7; bytes as usize], ..Value::default() };
    let proclaim = |state: &mut State, election: &str, bytes: u64| {
        let token = state.leader(election).unwrap().token;
        let op = Op::Proclaim { election: election.to_owned(), token, value: with(bytes) };
        apply(state, &Command::new(0, op)).reply
    };
    let campaign_with = |state: &mut State, serial: u64, (election, candidate): (&str, &str), bytes: u64| {
        let (session, election, candidate) = (SessionId(1), election.to_owned(), candidate.to_owned());
        let op = Op::Campaign { session, serial: Serial(serial), election, candidate, value: with(bytes), priority: 0 };
        apply(state, &Command::new(0, op)).reply.err()
    };

    // Nearly full: eight large values leave less room than 8 KiB. Proclaimed, because that hashes none of their bytes.
    open(&mut state).unwrap();
    open(&mut state).unwrap();
    assert_eq!(campaign_with(&mut state, 1, ("w", "leads"), 0), None);
    assert_eq!(campaign_with(&mut state, 2, ("w", "waits"), 0), None);
    let share = MAX_CANDIDACY_BYTES / LEADERS - 1_024;
    for n in 0..LEADERS {
        assert_eq!(campaign(&mut state, 2, n + 1, format!("e{n}"), "a".to_owned()), None);
        assert_eq!(proclaim(&mut state, &format!("e{n}"), share), Ok(Reply::Proclaimed));
    }
    let seen = |state: &State| {
        let contest = state.election("w").cloned();
        (contest, state.election_count(), state.session(SessionId(1)).unwrap().candidacies().len())
    };
    let full = seen(&state);

    // A larger value of a leader, of one who campaigns again (waiting or leading), and a new candidate: all refused.
    assert_eq!(proclaim(&mut state, "w", 8_192), Err(refused.clone()));
    assert_eq!(campaign_with(&mut state, 3, ("w", "waits"), 8_192), Some(refused.clone()));
    assert_eq!(campaign_with(&mut state, 4, ("w", "leads"), 8_192), Some(refused.clone()));
    assert_eq!(campaign_with(&mut state, 5, ("w", "late"), 8_192), Some(refused.clone()));
    assert_eq!(campaign_with(&mut state, 6, ("new", "late"), 8_192), Some(refused));
    assert_eq!(seen(&state), full, "a refused command changes nothing");
    state.check_invariants();

    // What ends makes room again.
    let op = Op::EndSession { session: SessionId(2), why: EndReason::Closed, only_if: None };
    apply(&mut state, &Command::new(0, op)).reply.unwrap();
    assert_eq!(proclaim(&mut state, "w", 8_192), Ok(Reply::Proclaimed));
    assert_eq!(campaign_with(&mut state, 7, ("w", "waits"), 8_192), None);
    assert_eq!(campaign_with(&mut state, 8, ("new", "late"), 8_192), None);
    state.check_invariants();
}

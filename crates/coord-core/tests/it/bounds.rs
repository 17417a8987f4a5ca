//! What would grow without end is forgotten, oldest first: the past of keys, and the answers of all sessions together. A write
//! is never refused for it.

use palisade_coord_core::keys::op::{Binding, Compare, Delete, Operand, Put, Read, Relation, Shows, Txn};
use palisade_coord_core::limits::{
    ANSWER_SHARE_BYTES, LONG_READ, MAX_ANSWER_BYTES, MAX_ANSWERS, MAX_KEY_HISTORY_BYTES, MAX_LOOKED_AT, MAX_REMOVED,
    MAX_SESSION_KEYS,
};
use palisade_coord_core::{
    Command, EndReason, KeyOp, KeyReply, Keys, OnDisconnect, Op, Refusal, Reply, RequestId, Revision, Serial,
    SessionId, State, apply,
};

fn open(state: &mut State) -> SessionId {
    let op = Op::OpenSession { id: None, ttl_ms: 2_000, on_disconnect: OnDisconnect::KeepUntilTtl };
    apply(state, &Command::new(0, op)).reply.unwrap();
    state.last_session()
}

fn put(state: &mut State, key: impl Into<Vec<u8>>, bytes: usize) {
    let op = Op::Keys(KeyOp::Put(Put::new(key, vec![7; bytes])));
    apply(state, &Command::new(0, op)).reply.unwrap();
}

fn kept(state: &State) -> usize {
    state.changes(&Keys::prefix([]), state.keys().watchable()).unwrap().count()
}

#[test]
fn the_past_of_keys_is_compacted_by_itself() {
    const VALUE: usize = 1 << 20;
    let mut state = State::new();
    let room = MAX_KEY_HISTORY_BYTES as usize / VALUE;
    for _ in 0..room {
        put(&mut state, *b"k", VALUE);
    }
    assert_eq!(state.keys().compacted(), Revision(0), "there was room");
    for _ in 0..room {
        put(&mut state, *b"k", VALUE);
    }
    state.check_invariants();
    let (compacted, now) = (state.keys().compacted(), state.revision());
    assert!(compacted.get() as usize > room - 2, "{compacted}");
    let at = |revision| state.read(&Read { revision: Some(revision), ..Read::new(Keys::One(b"k".to_vec())) });
    assert_eq!(at(compacted).unwrap().found[0].kv.mod_revision, compacted);
    assert_eq!(at(now).unwrap().found[0].kv.mod_revision, now);
    let before = Revision(compacted.get() - 1);
    assert_eq!(at(before), Err(Refusal::Compacted { revision: before, compacted }));
}

#[test]
fn removing_more_than_the_past_may_hold_forgets_it() {
    const VALUE: usize = 1 << 20;
    let mut state = State::new();
    let count = MAX_KEY_HISTORY_BYTES / VALUE as u64 + 20;
    for n in 0..count {
        put(&mut state, n.to_be_bytes(), VALUE);
    }
    let op = Op::Keys(KeyOp::Delete(Delete::new(Keys::prefix([]))));
    let reply = apply(&mut state, &Command::new(0, op)).reply;
    assert_eq!(reply, Ok(Reply::Keys(KeyReply::Deleted { deleted: count, previous: vec![] })));
    state.check_invariants();
    // The command that removed them is forgotten in part, so it can be watched from the one after it only.
    assert_eq!((state.keys().compacted(), state.keys().count()), (state.revision(), 0));
    assert_eq!(state.keys().watchable().get(), state.revision().get() + 1);
    assert!(state.changes(&Keys::prefix([]), state.revision()).is_err());
    put(&mut state, *b"k", 1);
    assert_eq!(kept(&state), 1);
    state.check_invariants();
}

#[test]
fn a_compaction_gives_memory_back_a_little_with_each_command() {
    const WRITES: u64 = 5_000;
    let mut state = State::new();
    for _ in 0..WRITES {
        put(&mut state, *b"k", 1);
    }
    let op = Op::Compact { revision: Revision(WRITES) };
    let mut first = vec![state.keys().first_change().unwrap().0.get()];
    apply(&mut state, &Command::new(0, op)).reply.unwrap();
    assert_eq!(kept(&state), 1, "what is compacted is out of sight at once");
    while first.last() != Some(&WRITES) {
        state.check_invariants();
        first.push(state.keys().first_change().unwrap().0.get());
        let _ = apply(&mut state, &Command::new(0, Op::Attach { session: SessionId(1) }));
    }
    assert!(first.windows(2).all(|step| step[1] - step[0] <= 1_024) && first.len() > 4, "{first:?}");
}

#[test]
fn keys_of_a_session_are_limited() {
    let mut state = State::new();
    let (session, other) = (open(&mut state), open(&mut state));
    let bind =
        |key: u64, session| KeyOp::Put(Put { session: Binding::To(session), ..Put::new(key.to_be_bytes(), *b"v") });
    for key in 0..MAX_SESSION_KEYS {
        apply(&mut state, &Command::new(0, Op::Keys(bind(key, session)))).reply.unwrap();
    }
    let refused = Err(Refusal::Limit { what: "keys of the session", limit: MAX_SESSION_KEYS });
    let mut apply_op = |op: KeyOp| apply(&mut state, &Command::new(0, Op::Keys(op))).reply;
    assert_eq!(apply_op(bind(MAX_SESSION_KEYS, session)), refused);
    assert!(apply_op(bind(0, session)).is_ok(), "it is bound already");
    assert!(apply_op(bind(MAX_SESSION_KEYS, other)).is_ok(), "the other has room");
    assert!(apply_op(bind(0, other)).is_ok());
    assert!(apply_op(bind(MAX_SESSION_KEYS, session)).is_ok(), "one was given up");

    let op = Op::EndSession { session, why: EndReason::Closed, only_if: None };
    apply(&mut state, &Command::new(0, op)).reply.unwrap();
    assert_eq!(state.keys().count(), 1);
    state.check_invariants();
}

/// The longest key.
const KEY: usize = 4_096;

/// A request with the largest answer that is remembered: a refusal that names a key.
fn keep(session: SessionId, serial: u64) -> Command {
    let request = Some(RequestId { session, serial: Serial(serial), acked_below: Serial(0) });
    let put = Put { value: None, ..Put::new(vec![7; KEY], []) };
    Command { request, ..Command::new(0, Op::Keys(KeyOp::Put(put))) }
}

#[test]
fn answers_of_all_sessions_are_bounded_by_bytes() {
    let mut state = State::new();
    let fit = MAX_ANSWER_BYTES / (KEY as u64 + ANSWER_SHARE_BYTES);
    let sessions: Vec<SessionId> = (0..=fit / MAX_ANSWERS as u64).map(|_| open(&mut state)).collect();
    for n in 0..=fit {
        let (session, serial) = (sessions[n as usize / MAX_ANSWERS], n % MAX_ANSWERS as u64 + 1);
        assert!(matches!(apply(&mut state, &keep(session, serial)).reply, Err(Refusal::KeyNotFound { .. })));
    }
    state.check_invariants();
    // The first one made room for the last: of it, nothing is known any more.
    let forgotten = Err(Refusal::Forgotten { serial: Serial(1) });
    assert_eq!(apply(&mut state, &keep(sessions[0], 1)).reply, forgotten);
    let second = apply(&mut state, &keep(sessions[0], 2));
    assert!(second.seq < state.seq() && matches!(second.reply, Err(Refusal::KeyNotFound { .. })));
}

/// A serial has no other above it that could be the floor: making room must end all the same.
#[test]
fn the_answer_to_the_last_serial_makes_room_too() {
    let mut state = State::new();
    let (first, last) = (open(&mut state), Serial::LAST.get());
    let refused = apply(&mut state, &keep(first, last));
    assert!(matches!(refused.reply, Err(Refusal::KeyNotFound { .. })));
    let fit = MAX_ANSWER_BYTES / (KEY as u64 + ANSWER_SHARE_BYTES);
    let sessions: Vec<SessionId> = (0..=fit / MAX_ANSWERS as u64).map(|_| open(&mut state)).collect();
    for n in 0..fit {
        apply(&mut state, &keep(sessions[n as usize / MAX_ANSWERS], n % MAX_ANSWERS as u64 + 1)).reply.unwrap_err();
    }
    state.check_invariants();
    let forgotten = Err(Refusal::Forgotten { serial: Serial::LAST });
    assert_eq!(apply(&mut state, &keep(first, last)).reply, forgotten, "never a second effect");
}

#[test]
fn the_keys_and_values_of_one_answer_are_bounded() {
    const VALUE: usize = 900 << 10;
    let mut state = State::new();
    for key in 0..5 {
        put(&mut state, [key], VALUE);
    }
    // Whoever reads on from the last key that came gets all in the end.
    let (mut from, mut seen) = (vec![], vec![]);
    loop {
        let findings = state.read(&Read::new(Keys::From(from))).unwrap();
        seen.extend(findings.found.iter().map(|it| it.key[0]));
        if !findings.more {
            break;
        }
        from = vec![seen.last().unwrap() + 1];
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);

    // In a transaction, all its operations share the room; what was there before is shown whole or not at all.
    let read = || KeyOp::Read(Read::new(Keys::prefix([])));
    let delete = KeyOp::Delete(Delete { shows_previous: true, ..Delete::new(Keys::prefix([])) });
    let txn = Txn { success: vec![read(), read(), delete], ..Txn::default() };
    let reply = apply(&mut state, &Command::new(0, Op::Keys(KeyOp::Txn(txn)))).reply;
    let Ok(Reply::Keys(KeyReply::Txn { replies, .. })) = reply else { panic!("{reply:?}") };
    let found = |reply: &KeyReply| match reply {
        KeyReply::Read(findings) => (findings.found.len(), findings.count, findings.more),
        other => panic!("{other:?}"),
    };
    assert_eq!((found(&replies[0]), found(&replies[1])), ((2, 5, true), (0, 5, true)));
    assert_eq!((&replies[2], state.keys().count()), (&KeyReply::NotKept, 0));
}

#[test]
fn one_command_removes_a_bounded_number_of_keys() {
    let mut state = State::new();
    for key in 0..=MAX_REMOVED {
        put(&mut state, key.to_be_bytes(), 0);
    }
    let mut remove = |keys| apply(&mut state, &Command::new(0, Op::Keys(KeyOp::Delete(Delete::new(keys))))).reply;
    let refused = Refusal::Limit { what: "keys removed by one command", limit: MAX_REMOVED };
    assert_eq!(remove(Keys::prefix([])), Err(refused));
    let most = Keys::From(1u64.to_be_bytes().to_vec());
    let removed = KeyReply::Deleted { deleted: MAX_REMOVED, previous: vec![] };
    assert_eq!(remove(most), Ok(Reply::Keys(removed)));
    state.check_invariants();
}

#[test]
fn what_one_command_looks_at_is_bounded() {
    const KEYS: u64 = 10_000;
    let mut state = State::new();
    for key in 0..KEYS {
        put(&mut state, key.to_be_bytes(), 1);
    }
    let all = || Compare { keys: Keys::prefix([]), relation: Relation::Greater, operand: Operand::Version(0) };
    let read = || KeyOp::Read(Read { shows: Shows::Count, ..Read::new(Keys::prefix([])) });
    let mut txn = |conditions: u64, reads: u64| {
        let compare = (0..conditions).map(|_| all()).collect();
        let mut success: Vec<KeyOp> = (0..reads).map(|_| read()).collect();
        success.push(KeyOp::Put(Put::new(*b"done", *b"v")));
        let txn = Txn { compare, success, ..Txn::default() };
        apply(&mut state, &Command::new(0, Op::Keys(KeyOp::Txn(txn)))).reply
    };
    let most = MAX_LOOKED_AT / KEYS;
    let refused = Err(Refusal::Limit { what: "keys that one command looks at", limit: MAX_LOOKED_AT });
    assert_eq!(txn(most + 1, 0), refused);
    assert_eq!(txn(most / 2, most / 2 + 1), refused);
    assert!(matches!(txn(most / 2, most / 2), Ok(Reply::Keys(KeyReply::Txn { succeeded: true, .. }))));
    // Nothing was done by those that were refused.
    assert_eq!((state.get(b"done").unwrap().version, state.keys().count()), (1, KEYS + 1));
    // Removals look as well, also at what is gone and whose past is kept.
    let mut remove = |times: u64| {
        let success = (0..times).map(|_| KeyOp::Delete(Delete::new(Keys::prefix([])))).collect();
        apply(&mut state, &Command::new(0, Op::Keys(KeyOp::Txn(Txn { success, ..Txn::default() })))).reply
    };
    assert_eq!(remove(most), refused);
    assert!(remove(1).is_ok());
    assert_eq!(remove(most), refused);
    assert!(remove(most - 1).is_ok());
    state.check_invariants();
}

#[test]
fn a_read_of_a_copy_finds_what_the_state_had() {
    let mut state = State::new();
    for key in 0..LONG_READ {
        put(&mut state, key.to_be_bytes(), 1);
    }
    let all = Read::new(Keys::prefix([]));
    assert!(!state.is_long(&all));
    put(&mut state, *b"one more", 1);
    assert!(state.is_long(&all) && !state.is_long(&Read::new(Keys::One(b"one more".to_vec()))));
    let (copy, then) = (state.freeze(), state.read(&all));
    put(&mut state, *b"later", 1);
    assert_eq!(copy.read(&all), then);
    let future = Read { revision: Some(state.revision()), ..Read::new(Keys::prefix([])) };
    assert!(matches!(copy.read(&future), Err(Refusal::FutureRevision { .. })));
}

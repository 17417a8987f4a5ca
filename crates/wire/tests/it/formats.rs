//! Log and snapshot: what goes in comes out, garbage is an error, and a replica that continues from a snapshot cannot be told
//! from one that never stopped.

use palisade_coord_core::keys::op::Put;
use palisade_coord_core::{
    Command, EndReason, KeyOp, KeyReply, OnDisconnect, Op, Reply, Serial, SessionId, State, Value, apply,
};
use palisade_wire::coord::v1::{BackupHead, Header};
use palisade_wire::{WireError, log, state};
use proptest::prelude::*;
use prost::Message;

use crate::steps;

proptest! {
    #![proptest_config(steps::config())]

    #[test]
    fn a_batch_comes_out_as_it_went_in(steps in steps::steps()) {
        let fresh = State::new();
        let commands: Vec<Command> = steps.iter().map(|step| step.command(&fresh)).collect();
        prop_assert_eq!(log::decode_batch(&log::encode_batch(&commands)).unwrap(), commands);
    }

    #[test]
    fn continuing_from_a_snapshot_is_continuing(steps in steps::steps(), cut in 0usize..160) {
        let (mut whole, mut resumed) = (State::new(), State::new());
        for (index, step) in steps.iter().enumerate() {
            if index == cut.min(steps.len() / 2) {
                let snapshot = state::encode(&resumed);
                resumed = state::decode(&snapshot).unwrap();
                prop_assert_eq!(&resumed, &whole);
                prop_assert_eq!(state::encode(&resumed), snapshot);
            }
            let command = step.command(&whole);
            prop_assert_eq!(apply(&mut whole, &command), apply(&mut resumed, &command));
        }
        prop_assert_eq!(resumed, whole);
    }

    #[test]
    fn bytes_that_are_no_snapshot_never_become_an_unsound_state(
        steps in steps::steps(), at in any::<prop::sample::Index>(), with in any::<u8>(),
    ) {
        let mut original = State::new();
        for step in &steps {
            let command = step.command(&original);
            let _ = apply(&mut original, &command);
        }
        let mut bytes = state::encode(&original).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(state) = state::decode(&bytes) {
            state.check_invariants();
        }
        let _ = log::decode_batch(&bytes);
    }
}

#[test]
fn another_version_is_refused_in_words() {
    let mut entry = log::encode_batch(&[]).to_vec();
    assert_eq!(log::decode_batch(&entry), Ok(vec![]));
    entry[0] = 2;
    let error = log::decode_batch(&entry).unwrap_err();
    assert_eq!(error, WireError::Version { found: 2, readable: 1 });
    assert_eq!(error.to_string(), "the record has format version 2, this program reads 1");
    assert_eq!(log::decode_batch(&[]), Err(WireError::Empty));
    assert_eq!(state::decode(&[]), Err(WireError::Empty));
    assert!(matches!(state::decode(&[state::VERSION, 0xff]), Err(WireError::Message(_))));
}

#[test]
fn fields_of_a_newer_program_are_passed_over() {
    let command = Command::new(7, Op::Withdraw { session: SessionId(1), serial: Serial(2) });
    let mut record = log::encode_batch(std::slice::from_ref(&command)).to_vec();
    // Field 15 of the batch, a number, behind what there is.
    record.extend([15 << 3, 42]);
    assert_eq!(log::decode_batch(&record), Ok(vec![command]));
    // An operation that this program does not have is an error: passing over it would let replicas differ.
    let unknown = [log::VERSION, 1 << 3 | 2, 4, 0xfa, 0x07, 1, 0];
    assert_eq!(log::decode_batch(&unknown).unwrap_err().to_string(), "command.op: is missing");
}

#[test]
fn a_large_state_survives() {
    let mut original = State::new();
    for n in 0..1_000u64 {
        let open = Op::OpenSession { id: None, ttl_ms: n, on_disconnect: OnDisconnect::ReleaseAfter { ms: n } };
        let opened = apply(&mut original, &Command::new(n, open));
        assert!(matches!(opened.reply, Ok(Reply::SessionOpened { session: SessionId(id), .. }) if id == n + 1));
        let key = n.to_be_bytes().to_vec();
        let put = Op::Keys(KeyOp::Put(Put::new(key, [7; 1_000])));
        let written = Reply::Keys(KeyReply::Put { version: 1, previous: None });
        assert_eq!(apply(&mut original, &Command::new(n, put)).reply, Ok(written));
    }
    let bytes = state::encode(&original);
    assert_eq!(state::decode(&bytes).unwrap(), original);
    // Cut off anywhere, it is an error or a different, sound state; never a panic.
    for cut in (0..bytes.len()).step_by(9_973) {
        if let Ok(state) = state::decode(&bytes[..cut]) {
            state.check_invariants();
        }
    }
}

/// A state of which much is large: the past of a key, the line of an election, and what its observers were told.
fn a_state_with_long_lists() -> State {
    let mut state = State::new();
    let value = || Value { address: "a".repeat(1_000), ..Value::default() };
    for n in 1..=300u64 {
        let open = Op::OpenSession { id: None, ttl_ms: 1_000, on_disconnect: OnDisconnect::KeepUntilTtl };
        apply(&mut state, &Command::new(n, open)).reply.unwrap();
        let (session, serial, election) = (SessionId(n), Serial(1), "e".to_owned());
        let (candidate, priority) = (format!("candidate-{n}"), 0);
        let campaign = Op::Campaign { session, serial, election, candidate, value: value(), priority };
        apply(&mut state, &Command::new(n, campaign)).reply.unwrap();
        let put = Op::Keys(KeyOp::Put(Put::new(b"k".to_vec(), [7; 1_000])));
        apply(&mut state, &Command::new(n, put)).reply.unwrap();
    }
    for n in 1..=100u64 {
        let end = Op::EndSession { session: SessionId(n), why: EndReason::Expired, only_if: None };
        apply(&mut state, &Command::new(n, end)).reply.unwrap();
    }
    state
}

#[test]
fn no_piece_of_a_snapshot_is_large_and_they_may_be_cut_anywhere() {
    let state = a_state_with_long_lists();
    let mut pieces = Vec::new();
    let written: Result<(), ()> = state::write(&state.freeze(), &mut |piece| {
        pieces.push(piece.to_vec());
        Ok(())
    });
    written.unwrap();
    let largest = pieces.iter().map(Vec::len).max().unwrap();
    assert!(pieces.len() > 5 && largest < 160 << 10, "{} pieces, the largest of {largest}", pieces.len());
    let whole = pieces.concat();
    assert_eq!(whole, state::encode(&state));
    for size in [1, 7, 1_000, 100_000, whole.len()] {
        let mut reading = state::Reading::new();
        whole.chunks(size).try_for_each(|piece| reading.take(piece)).unwrap();
        assert_eq!(reading.finish().unwrap(), state, "in pieces of {size}");
    }
    // Whoever takes no more is asked no more.
    let mut taken = 0;
    let refused = state::write(&state.freeze(), &mut |_| {
        taken += 1;
        if taken == 2 { Err("enough") } else { Ok(()) }
    });
    assert_eq!((refused, taken), (Err("enough"), 2));
}

#[test]
fn a_snapshot_of_the_version_before_is_read() {
    let mut state = State::new();
    for n in 0..10u64 {
        let put = Op::Keys(KeyOp::Put(Put::new((n % 3).to_be_bytes().to_vec(), [7; 10])));
        apply(&mut state, &Command::new(n, put)).reply.unwrap();
    }
    // It differs in what may be continued, and nothing here is.
    let mut bytes = state::encode(&state).to_vec();
    bytes[0] = 2;
    assert_eq!(state::decode(&bytes).unwrap(), state);
    for other in [1, state::LEVELLED + 1] {
        bytes[0] = other;
        assert!(matches!(state::decode(&bytes), Err(WireError::Version { .. })));
    }
}

/// A program from before levels would pass over what it does not know, and the nodes would differ: it must meet what it cannot read.
#[test]
fn a_state_of_the_first_level_is_as_it_was_before_levels_and_one_above_stops_who_knows_none() {
    let mut state = State::new();
    let first = state::encode(&state);
    assert_eq!(first[0], state::VERSION);
    let raise = Command::new(7, Op::RaiseLevel { level: 3 });
    assert_eq!(log::decode_batch(&log::encode_batch(std::slice::from_ref(&raise))), Ok(vec![raise.clone()]));
    assert_eq!(apply(&mut state, &raise).reply, Ok(Reply::LevelRaised { before: 1 }));
    let above = state::encode(&state);
    assert_eq!(above[0], state::LEVELLED);
    assert_eq!(state::decode(&above).unwrap(), state);
    assert_eq!(state::decode(&above).unwrap().level(), 3);
}

#[test]
fn the_head_of_a_backup_comes_out_as_it_went_in_and_nothing_else_is_one() {
    let header = Header { cluster_id: 7, generation: 3, seq: 9, revision: 4 };
    let head = BackupHead { header: Some(header), version: "1.2.3".to_owned(), saved_unix_ms: 5 };
    let bytes = state::backup_head(&head.encode_to_vec());
    assert_eq!(state::backup_head_from(&bytes), Ok(head.clone()));
    let mut newer = bytes.to_vec();
    newer[6] += 1;
    assert_eq!(state::backup_head_from(&newer), Err(WireError::Version { found: 2, readable: 1 }));
    assert_eq!(state::backup_head_from(b"\x01\x00").unwrap_err().to_string(), "head: it is no backup's");
    // What a newer program adds is passed over by whoever reads it, and kept by whoever saves it.
    let more = [&head.encode_to_vec()[..], &[15 << 3, 42]].concat();
    let kept = state::backup_head(&more);
    assert!(kept.ends_with(&more));
    assert_eq!(state::backup_head_from(&kept), Ok(head));
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_loses_answers_at_a_snapshot_is_caught() {
    use palisade_planted::{Bug, caught};
    let why = caught(Bug::AnswersLostAtSnapshot, continuing_from_a_snapshot_is_continuing).expect("it must be caught");
    assert!(why.contains("Memory"), "{why}");
}

//! Log and snapshot: what goes in comes out, garbage is an error, and a replica that continues from a snapshot cannot be told
//! from one that never stopped.

use palisade_coord_core::keys::op::Put;
use palisade_coord_core::{Command, KeyOp, KeyReply, OnDisconnect, Op, Reply, Serial, SessionId, State, apply};
use palisade_wire::{WireError, log, state};
use proptest::prelude::*;

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

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_loses_answers_at_a_snapshot_is_caught() {
    use palisade_planted::{Bug, caught};
    let why = caught(Bug::AnswersLostAtSnapshot, continuing_from_a_snapshot_is_continuing).expect("it must be caught");
    assert!(why.contains("Memory"), "{why}");
}

//! Random commands: the state machine says what the model says, its invariants hold after each, and two replicas agree.

use palisade_coord_core::{Command, EndReason, Event, Keys, State, apply, invariants};
use palisade_fence::Token;
use proptest::prelude::*;

use crate::model::Model;
use crate::steps::{self, Step};

proptest! {
    #![proptest_config(steps::config())]

    #[test]
    fn the_state_machine_does_what_the_model_does(steps in steps::steps()) {
        follow(&steps)?;
    }

    #[test]
    fn two_replicas_agree(steps in steps::steps()) {
        let (mut one, mut other) = (State::new(), State::new());
        for step in steps {
            let command = step.command(&one);
            prop_assert_eq!(apply(&mut one, &command), apply(&mut other, &command));
            prop_assert_eq!(&one, &other);
        }
    }
}

/// Runs the state machine beside the model.
pub(crate) fn follow(steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut state, mut model) = (State::new(), Model::default());
    for step in steps {
        let command = step.command(&state);
        compare(&mut state, &mut model, &command)?;
    }
    Ok(())
}

/// One command in both: the same answer, the same leaders and keys, and every invariant holds.
pub(crate) fn compare(state: &mut State, model: &mut Model, command: &Command) -> Result<(), TestCaseError> {
    let before = state.clone();
    let outcome = apply(state, command);
    invariants::check(state).map_err(|it| TestCaseError::fail(it.to_string()))?;
    invariants::check_step(&before, command, &outcome, state).map_err(|it| TestCaseError::fail(it.to_string()))?;

    let said = model.apply(command);
    prop_assert_eq!(&outcome.reply, &said.reply, "{:?}", command);
    prop_assert_eq!((outcome.seq.get(), outcome.revision.get()), (said.seq, said.revision), "{:?}", command);
    prop_assert_eq!(state.revision().get(), model.revision());
    prop_assert_eq!(state.level(), model.level());
    for name in ["alpha", "beta"] {
        prop_assert_eq!(state.leader(name).cloned(), model.leader(name), "{} after {:?}", name, command);
        let asked = state.election(name).and_then(|it| it.asked.as_ref());
        prop_assert_eq!(asked, model.asked_of(name), "{} after {:?}", name, command);
        let history: Vec<_> = state.history().of(name).map(|(seq, reign)| (seq.get(), reign.clone())).collect();
        prop_assert_eq!(history, model.history_of(name), "{} after {:?}", name, command);
    }
    let keys: Vec<_> = state.keys().iter().map(|(key, kv)| (key.to_vec(), kv.clone())).collect();
    let expected: Vec<_> = model.keys.present().clone().into_iter().collect();
    prop_assert_eq!(keys, expected, "{:?}", command);
    prop_assert_eq!(state.keys().compacted().get(), model.keys.compacted);
    let all = Keys::prefix([]);
    let changes = state.changes(&all, state.keys().watchable()).unwrap();
    let changes: Vec<_> =
        changes.map(|it| (it.revision.get(), it.key.to_vec(), it.kv.cloned(), it.previous.cloned())).collect();
    prop_assert_eq!(changes, model.keys.changes(), "{:?}", command);
    prop_assert_eq!(ended(&outcome.events), said.ended, "{:?}", command);
    Ok(())
}

/// The leaderships that ended, by the events, in the order of names.
fn ended(events: &[Event]) -> Vec<(String, Token, EndReason)> {
    let ended = events.iter().filter_map(|event| match event {
        Event::Elected { grant, previous: Some((token, why)) } => Some((grant.election.clone(), *token, *why)),
        Event::Vacant { election, previous, why } => Some((election.clone(), *previous, *why)),
        _ => None,
    });
    ended.collect()
}

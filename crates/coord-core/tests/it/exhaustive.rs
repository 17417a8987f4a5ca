//! Every sequence of a few commands over a tiny world, against the model: what random commands may miss by chance cannot hide
//! here.

use palisade_coord_core::keys::op::Put;
use palisade_coord_core::{
    AttachGeneration, Command, EndReason, Guard, KeyOp, OnDisconnect, Op, RequestId, Serial, SessionId, State, Value,
};
use palisade_fence::{Fence, Token};

use crate::model::Model;
use crate::model_test::compare;

/// Deep enough for: campaign, campaign, hand over, campaign again, and a late command of the first.
const DEPTH: usize = 5;

#[test]
fn every_short_sequence_does_what_the_model_does() {
    let (mut state, mut model) = (State::new(), Model::default());
    for on_disconnect in [OnDisconnect::KeepUntilTtl, OnDisconnect::ReleaseAfter { ms: 0 }] {
        let open = Command::new(0, Op::OpenSession { id: None, ttl_ms: 2_000, on_disconnect });
        compare(&mut state, &mut model, &open).unwrap();
    }
    let visited = descend(&state, &model, &alphabet(), DEPTH);
    assert_eq!(visited, (1..=DEPTH as u32).map(|depth| alphabet().len().pow(depth)).sum::<usize>());
}

fn descend(state: &State, model: &Model, alphabet: &[Command], depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    let mut visited = 0;
    for command in alphabet {
        let (mut state, mut model) = (state.clone(), model.clone());
        compare(&mut state, &mut model, command).unwrap();
        visited += 1 + descend(&state, &model, alphabet, depth - 1);
    }
    visited
}

/// Two sessions, one election, one fenced key.
fn alphabet() -> Vec<Command> {
    let (one, two) = (SessionId(1), SessionId(2));
    let campaign = |session, serial, candidate: &str| {
        let (election, candidate) = ("alpha".to_owned(), candidate.to_owned());
        Op::Campaign { session, serial: Serial(serial), election, candidate, value: Value::default(), priority: 0 }
    };
    let resign = |token, by| {
        let (election, token) = ("alpha".to_owned(), Token::new(0, token));
        Op::Resign { election, token, by: Some(by), guard: Guard::Refuse }
    };
    let transfer = |to: &str, guard| {
        let (election, to) = ("alpha".to_owned(), to.to_owned());
        Op::Transfer { election, token: None, to, by: None, guard }
    };
    let put = |token| {
        let fence = Some(Fence { election: "alpha".to_owned(), token: Token::new(0, token) });
        Op::Keys(KeyOp::Put(Put { fence, ..Put::new(*b"k", []) }))
    };
    let expire = Op::EndSession { session: one, why: EndReason::Expired, only_if: Some(AttachGeneration(1)) };
    let id = RequestId { session: two, serial: Serial(9), acked_below: Serial(0) };
    vec![
        Command::new(0, campaign(one, 1, "a")),
        Command::new(0, campaign(one, 2, "a")),
        Command::new(0, campaign(two, 1, "b")),
        Command::new(0, resign(1, one)),
        Command::new(0, resign(1, two)),
        Command::new(0, expire),
        Command::new(0, Op::Attach { session: one }),
        Command::new(0, transfer("b", Guard::Ask)),
        Command::new(0, transfer("a", Guard::Ask)),
        Command::new(0, Op::Withdraw { session: one, serial: Serial(1) }),
        Command::new(0, put(1)),
        Command { request: Some(id), ..Command::new(0, put(2)) },
    ]
}

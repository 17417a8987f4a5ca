//! Random commands over a small world: few sessions, elections, candidates, tokens and serials, so that they meet often.
//! Part of what a step names is taken from the state it meets ("the current token"), because a random one seldom fits.

use palisade_coord_core::keys::op::{
    Binding, Compare, Delete, Field, Operand, Order, Put, Read, Relation, Shows, Txn, Within,
};
use palisade_coord_core::{
    AttachGeneration, Command, EndReason, Guard, KeyOp, Keys, OnDisconnect, Op, RequestId, Revision, Serial, SessionId,
    State, Value,
};
use palisade_fence::{ClusterId, Fence, Token};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// A command that still looks at the state which it will meet.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    command: Command,
    token: Pick,
    attach: Pick,
}

/// Whether a number is taken from the state or stays as it was drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Pick {
    Current,
    Drawn,
}

impl Step {
    /// The command, with what is taken from the state.
    pub(crate) fn command(&self, state: &State) -> Command {
        let mut command = self.command.clone();
        let current = |election: &str, drawn: Token| match state.leader(election) {
            Some(grant) if self.token == Pick::Current => grant.token,
            _ => drawn,
        };
        match &mut command.op {
            Op::Proclaim { election, token, .. } => *token = current(election, *token),
            Op::Resign { election, token, by, .. } => {
                *token = current(election, *token);
                if self.attach == Pick::Current {
                    *by = state.leader(election).map(|grant| grant.session);
                }
            }
            Op::Transfer { election, token: Some(token), .. } => *token = current(election, *token),
            Op::Keys(op) => fences(op, &mut |fence| fence.token = current(&fence.election, fence.token)),
            Op::EndSession { session, only_if: Some(attach), .. } => {
                if let Some(session) = state.session(*session).filter(|_| self.attach == Pick::Current) {
                    *attach = session.attach;
                }
            }
            _ => {}
        }
        command
    }
}

/// Up to this many steps in a row; long enough for a few hand-overs.
const STEPS: usize = 160;

/// The same cases on every machine; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` change them.
pub(crate) fn config() -> ProptestConfig {
    let fresh = ProptestConfig::default();
    let seed = match fresh.rng_seed {
        RngSeed::Random => RngSeed::Fixed(20_250_101),
        fixed => fixed,
    };
    ProptestConfig { rng_seed: seed, failure_persistence: None, ..fresh }
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..STEPS)
}

fn step() -> impl Strategy<Value = Step> {
    let pick = || prop_oneof![3 => Just(Pick::Current), 1 => Just(Pick::Drawn)];
    (op(), prop::option::weighted(0.4, request()), 0u64..9, pick(), pick()).prop_map(
        |(op, request, at_unix_ms, token, attach)| Step { command: Command { request, at_unix_ms, op }, token, attach },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => any::<u64>().prop_map(|id| Op::Found { cluster: ClusterId(id) }),
        4 => (prop::option::weighted(0.2, 0u64..2), on_disconnect()).prop_map(|(given, on_disconnect)| {
            Op::OpenSession { id: given.and_then(SessionId::given), ttl_ms: 2_000, on_disconnect }
        }),
        2 => session().prop_map(|session| Op::Attach { session }),
        3 => end(),
        10 => campaign(),
        3 => (election(), token(), value()).prop_map(|(election, token, value)| Op::Proclaim { election, token, value }),
        4 => resign(),
        2 => (session(), guard()).prop_map(|(session, guard)| Op::CloseSession { session, guard }),
        2 => (session(), serial()).prop_map(|(session, serial)| Op::Withdraw { session, serial }),
        2 => (election(), candidate(), prop::option::of(session()), guard())
            .prop_map(|(election, candidate, by, guard)| Op::Remove { election, candidate, by, guard }),
        4 => (election(), prop::option::of(token()), candidate(), prop::option::of(session()), guard())
            .prop_map(|(election, token, to, by, guard)| Op::Transfer { election, token, to, by, guard }),
        10 => key_op(2).prop_map(Op::Keys),
        1 => revision().prop_map(|revision| Op::Compact { revision }),
        // From what is no level up to some that no program knows: to the machine they are numbers.
        1 => (0u32..5).prop_map(|level| Op::RaiseLevel { level }),
    ]
}

fn end() -> impl Strategy<Value = Op> {
    let why = prop_oneof![Just(EndReason::Closed), Just(EndReason::Expired), Just(EndReason::Disconnected)];
    (session(), why, prop::option::of((1u64..3).prop_map(AttachGeneration)))
        .prop_map(|(session, why, only_if)| Op::EndSession { session, why, only_if })
}

fn campaign() -> impl Strategy<Value = Op> {
    (session(), serial(), election(), candidate(), value(), 0i32..3).prop_map(
        |(session, serial, election, candidate, value, priority)| Op::Campaign {
            session,
            serial,
            election,
            candidate,
            value,
            priority,
        },
    )
}

fn candidate() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x".to_owned(), "y".to_owned(), "z".to_owned()])
}

fn guard() -> impl Strategy<Value = Guard> {
    prop::sample::select(vec![Guard::Refuse, Guard::Ask, Guard::Ask, Guard::AskAndStopRenewing, Guard::Break])
}

fn resign() -> impl Strategy<Value = Op> {
    (election(), token(), prop::option::of(session()), guard()).prop_map(|(election, token, by, guard)| Op::Resign {
        election,
        token,
        by,
        guard,
    })
}

fn request() -> impl Strategy<Value = RequestId> {
    let acked = prop_oneof![30 => Just(0u64), 10 => 0u64..30, 1 => Just(u64::MAX)];
    (session(), serial(), acked).prop_map(|(session, serial, acked)| RequestId {
        session,
        serial,
        acked_below: Serial(acked),
    })
}

fn session() -> impl Strategy<Value = SessionId> {
    prop_oneof![8 => (1u64..6).prop_map(SessionId), 1 => (0u64..2).prop_map(|given| SessionId::given(given).unwrap())]
}

fn serial() -> impl Strategy<Value = Serial> {
    // A session with a given id counts from the `seq` of its opening. Nothing comes after the last serial, so what forgets "up to
    // and with it" is easily wrong.
    prop_oneof![27 => (1u64..30).prop_map(Serial), 3 => (30u64..200).prop_map(Serial), 1 => Just(Serial::LAST)]
}

fn token() -> impl Strategy<Value = Token> {
    (1u32..12).prop_map(|counter| Token::new(0, counter))
}

fn election() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just("alpha".to_owned()), 2 => Just("beta".to_owned())]
}

/// An operation on keys; a transaction may have others within, so many deep.
fn key_op(depth: u32) -> BoxedStrategy<KeyOp> {
    let value = || prop::collection::vec(any::<u8>(), 0..3);
    let binding = prop_oneof![4 => Just(Binding::None), 3 => session().prop_map(Binding::To), 1 => Just(Binding::Keep)];
    let put =
        (key(), prop::option::weighted(0.9, value()), binding, any::<bool>(), prop::option::weighted(0.3, fence()))
            .prop_map(|(key, value, session, shows_previous, fence)| Put {
                key,
                value,
                session,
                shows_previous,
                fence,
            });
    let delete = (keys(), any::<bool>(), prop::option::weighted(0.3, fence()))
        .prop_map(|(keys, shows_previous, fence)| Delete { keys, shows_previous, fence });
    let leaf = prop_oneof![5 => put.prop_map(KeyOp::Put), 3 => delete.prop_map(KeyOp::Delete), 2 => read().prop_map(KeyOp::Read)];
    if depth == 0 {
        return leaf.boxed();
    }
    let ops = || prop::collection::vec(key_op(depth - 1), 0..3);
    let txn = (prop::option::weighted(0.2, fence()), prop::collection::vec(compare(), 0..3), ops(), ops())
        .prop_map(|(fence, compare, success, failure)| KeyOp::Txn(Txn { fence, compare, success, failure }));
    prop_oneof![3 => leaf, 1 => txn].boxed()
}

fn read() -> impl Strategy<Value = Read> {
    let by = vec![Field::Key, Field::Version, Field::Created, Field::Written, Field::Value];
    let order = (prop::sample::select(by), any::<bool>()).prop_map(|(by, descending)| Order { by, descending });
    let shows = prop::sample::select(vec![Shows::Whole, Shows::NoValues, Shows::Count]);
    let within = || {
        let bounded = (revision(), revision()).prop_map(|(first, last)| Within { first, last });
        prop_oneof![3 => Just(Within::default()), 1 => bounded]
    };
    (keys(), prop::option::of(revision()), 0u64..4, order, shows, within(), within()).prop_map(
        |(keys, revision, limit, order, shows, written, created)| Read {
            keys,
            revision,
            limit,
            order,
            shows,
            written,
            created,
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let relations = vec![Relation::Equal, Relation::NotEqual, Relation::Greater, Relation::Less];
    let operand = prop_oneof![
        (0u64..4).prop_map(Operand::Version),
        revision().prop_map(Operand::Created),
        revision().prop_map(Operand::Written),
        prop::collection::vec(any::<u8>(), 0..2).prop_map(Operand::Value),
        prop::option::of(session()).prop_map(Operand::Session),
    ];
    (keys(), prop::sample::select(relations), operand).prop_map(|(keys, relation, operand)| Compare {
        keys,
        relation,
        operand,
    })
}

fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![
        3 => key().prop_map(Keys::One),
        1 => key().prop_map(Keys::From),
        1 => (key(), key()).prop_map(|(from, to)| Keys::Span { from, to }),
    ]
}

fn revision() -> impl Strategy<Value = Revision> {
    (0u64..40).prop_map(Revision)
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![b"k".to_vec(), b"l".to_vec(), b"m".to_vec(), vec![0, 255]])
}

/// Every fence in an operation.
fn fences(op: &mut KeyOp, change: &mut dyn FnMut(&mut Fence)) {
    match op {
        KeyOp::Put(put) => put.fence.iter_mut().for_each(change),
        KeyOp::Delete(delete) => delete.fence.iter_mut().for_each(change),
        KeyOp::Read(_) => {}
        KeyOp::Txn(txn) => {
            txn.fence.iter_mut().for_each(&mut *change);
            txn.success.iter_mut().chain(&mut txn.failure).for_each(|op| fences(op, change));
        }
    }
}

fn fence() -> impl Strategy<Value = Fence> {
    (election(), token()).prop_map(|(election, token)| Fence { election, token })
}

fn value() -> impl Strategy<Value = Value> {
    prop::sample::select(vec!["", "one:1", "two:2"]).prop_map(|address| Value {
        address: address.to_owned(),
        components: [("rpc".to_owned(), address.to_owned())].into(),
        data: address.as_bytes().to_vec(),
    })
}

fn on_disconnect() -> impl Strategy<Value = OnDisconnect> {
    prop_oneof![Just(OnDisconnect::KeepUntilTtl), Just(OnDisconnect::ReleaseAfter { ms: 0 })]
}

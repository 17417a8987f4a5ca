//! Whatever is delayed, lost, repeated or broken: nobody believes for longer than the store's TTL allows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// What the world does next.
#[derive(Clone, Debug)]
enum Step {
    Wait(u16),
    /// Acknowledges one of the keep-alives that are out, chosen by the number.
    Acknowledge(usize),
    Break,
    Connect,
    /// Answers the newest attach; the store still holds the grant or not.
    Attach {
        holds: bool,
    },
    Granted,
    Frame,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u16..400).prop_map(Step::Wait),
        4 => (0usize..8).prop_map(Step::Acknowledge),
        1 => Just(Step::Break),
        2 => Just(Step::Connect),
        2 => prop::bool::weighted(0.9).prop_map(|holds| Step::Attach { holds }),
        1 => Just(Step::Granted),
        1 => Just(Step::Frame),
    ]
}

/// When each keep-alive was sent, by call.
#[derive(Default)]
struct Model {
    out: BTreeMap<u64, (StreamId, u64)>,
    looked: usize,
    /// Send time of the newest that was acknowledged, or of the opening frame.
    renewed: u64,
}

impl Model {
    fn look(&mut self, play: &Play) {
        for (stream, call, body) in &play.sent[self.looked..] {
            if is_keep_alive(body) {
                self.out.insert(*call, (*stream, play.now));
            }
        }
        self.looked = play.sent.len();
    }
}

fn check(play: &Play, model: &Model, key: Key, on_disconnect: OnDisconnect) -> Result<(), TestCaseError> {
    let bound = ms(model.renewed) + believable(ms(TTL));
    let mut states = play.effects.iter().rev().filter_map(|effect| match effect {
        Effect::State { key: of, state } if *of == key => Some(state),
        Effect::Decided { key: of, result: Ok((_, state)) } if *of == key => Some(state),
        _ => None,
    });
    let Some(state) = states.next() else { return Ok(()) };
    if let LeadershipState::Held { deadline } | LeadershipState::Suspect { deadline } = state {
        prop_assert!(*deadline <= bound, "{state:?} goes beyond {bound:?}, {on_disconnect:?}");
        prop_assert!(ms(play.now) < *deadline, "at {} ms it is still {state:?}", play.now);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2), failure_persistence: None, ..ProptestConfig::with_cases(256) })]
    #[test]
    fn belief_never_outlives_the_send_time_of_the_last_acknowledged_keep_alive(
        release_after in prop::option::of(0u64..5_000),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let on_disconnect = release_after.map_or(OnDisconnect::KeepUntilTtl, |after| OnDisconnect::ReleaseAfter(ms(after)));
        let mut play = Play::default();
        let mut stream = play.open(on_disconnect, TTL);
        let key = play.campaign(SESSION, "a");
        play.answer_campaign(None);
        let mut model = Model::default();
        for step in steps {
            match step {
                // Ticks come in their place, or are late by the whole wait: the process was stopped.
                Step::Wait(span) if span % 3 == 0 => {
                    let now = play.now;
                    play.at(now + u64::from(span)).on(Event::Tick);
                }
                Step::Wait(span) => {
                    let now = play.now;
                    // Frames are stamped in between: look at each.
                    for at in (now..now + u64::from(span)).step_by(3).chain([now + u64::from(span)]) {
                        play.at(at).on(Event::Tick);
                        model.look(&play);
                        check(&play, &model, key, on_disconnect)?;
                    }
                }
                Step::Acknowledge(which) => {
                    let calls: Vec<u64> = model.out.keys().copied().collect();
                    if !calls.is_empty() {
                        let call = calls[which % calls.len()];
                        let (on, sent) = model.out.remove(&call).unwrap();
                        // The core may refuse to learn from it; it may not learn more than this.
                        model.renewed = model.renewed.max(sent);
                        let kept = v1::KeptAlive { sessions: vec![SESSION], ..Default::default() };
                        play.frame(on, call, server_frame::Body::KeptAlive(kept));
                    }
                }
                Step::Break => play.on(Event::Broken { stream, hint: None }),
                Step::Connect => stream = play.connect(),
                Step::Attach { holds } => {
                    if play.last(is_attach).is_some() {
                        let held = if holds { vec![grant(key, 7)] } else { vec![] };
                        play.answer_attach(held, vec![]);
                    }
                }
                Step::Granted => {
                    let granted = v1::Granted { header: None, grant: Some(grant(key, 7)) };
                    play.frame(stream, 0, server_frame::Body::Granted(granted));
                }
                Step::Frame => play.frame(stream, 0, server_frame::Body::KeptAlive(v1::KeptAlive::default())),
            }
            model.look(&play);
            check(&play, &model, key, on_disconnect)?;
        }
    }
}

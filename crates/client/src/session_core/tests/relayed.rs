//! Streams that pass through another node: taken when there is no other, left for a better one without disconnecting anybody.

use super::*;

fn looks_for(play: &Play) -> Option<Search> {
    play.effects.iter().rev().find_map(|effect| match effect {
        Effect::Dial { search, .. } => Some(*search),
        Effect::StopDialing | Effect::Opened { .. } => None,
        _ => None,
    })
}

/// A leader behind a relay.
fn relayed(play: &mut Play, on_disconnect: OnDisconnect) -> (StreamId, Key) {
    let what = ToOpen { ttl: ms(TTL), on_disconnect, given: None };
    play.on(Event::Open { open: OpenId(1), what, give_up_at: ms(5_000) });
    let stream = play.connect_by(Way::Relayed);
    play.answer_open(SESSION);
    let key = play.lead(7);
    (stream, key)
}

#[test]
fn who_is_relayed_looks_for_the_store_leader_itself_and_moves_without_a_doubt() {
    let mut play = Play::default();
    let (relay, key) = relayed(&mut play, OnDisconnect::ReleaseAfter(Duration::ZERO));
    assert_eq!(looks_for(&play), Some(Search::Directly));
    play.take();
    play.on(Event::Tick);
    assert_eq!(looks_for(&play), None, "it is being looked for");

    let direct = play.at(100).connect();
    assert_eq!(play.did(|it| matches!(it, Effect::State { .. })), None, "nobody has a reason to doubt");
    assert_eq!(play.did(|it| matches!(it, Effect::HangUp { .. })), None, "it is attached there still");
    assert_eq!(play.last(is_attach).unwrap().0, direct);
    play.answer_attach(vec![grant(key, 7)], vec![]);
    assert!(play.effects.contains(&Effect::HangUp { stream: relay }), "nobody is attached there any more");
    assert_eq!(play.did(is_lost), None);
    assert_eq!(looks_for(&play), None, "there is nothing better");
}

#[test]
fn a_better_stream_that_breaks_at_once_leaves_the_relayed_one_as_it_was() {
    let mut play = Play::default();
    let (relay, key) = relayed(&mut play, OnDisconnect::ReleaseAfter(Duration::ZERO));
    let direct = play.at(100).connect();
    play.take();
    play.on(Event::Broken { stream: direct, hint: None });
    assert_eq!(
        play.did(|it| matches!(it, Effect::HangUp { .. })),
        None,
        "closing the relayed one would release the holder"
    );
    assert_eq!(play.last(is_attach).unwrap().0, relay);
    play.answer_attach(vec![grant(key, 7)], vec![]);
    assert!(matches!(play.state(key), LeadershipState::Held { .. }));
    assert_eq!(looks_for(&play), Some(Search::Directly), "it goes on looking");
}

#[test]
fn a_relay_that_falls_silent_is_replaced_by_whatever_there_is() {
    let mut play = Play::default();
    let (relay, key) = relayed(&mut play, OnDisconnect::KeepUntilTtl);
    play.take();
    play.pass_until(600);
    assert!(matches!(play.state(key), LeadershipState::Suspect { .. }));
    assert_eq!(looks_for(&play), Some(Search::Anywhere));
    let other = play.connect_by(Way::Relayed);
    assert_ne!(other, relay);
    assert_eq!(play.last(is_attach).unwrap().0, other);
}

#[test]
fn a_relayed_stream_that_breaks_is_replaced_by_whatever_there_is() {
    let mut play = Play::default();
    let (relay, key) = relayed(&mut play, OnDisconnect::ReleaseAfter(Duration::ZERO));
    play.take();
    play.at(100).on(Event::Broken { stream: relay, hint: None });
    assert_eq!(looks_for(&play), Some(Search::Anywhere));
    assert!(matches!(play.state(key), LeadershipState::Suspect { .. }), "only the store knows whose fault it was");
    play.at(150).connect_by(Way::Relayed);
    play.answer_attach(vec![grant(key, 7)], vec![]);
    assert!(matches!(play.state(key), LeadershipState::Held { .. }));
}

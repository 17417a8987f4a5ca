//! What somebody else asks of a session and of its leaderships, and sessions under ids that callers give.

use super::*;
use crate::{EndRequest, SessionWish};

const STREAM: StreamId = StreamId(1);

fn end_requested(key: Key, token: u64, to: &str) -> v1::EndRequested {
    let (session, serial, to) = (key.session, key.serial, to.to_owned());
    v1::EndRequested { header: None, session, serial, election: "e".to_owned(), token, to }
}

fn requests(play: &mut Play) -> Vec<(Key, Option<String>)> {
    let effects = play.take().into_iter();
    let requests = effects.filter_map(|effect| match effect {
        Effect::EndRequested { key, request: EndRequest { to } } => Some((key, to)),
        _ => None,
    });
    requests.collect()
}

fn asked(wish: v1::session_asked::Wish) -> server_frame::Body {
    server_frame::Body::SessionAsked(v1::SessionAsked { header: None, session: SESSION, wish: wish.into() })
}

#[test]
fn a_holder_is_told_who_is_to_follow_it_once_and_again_if_another_is_named() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    let tell = |play: &mut Play, token, to| {
        play.frame(STREAM, 0, server_frame::Body::EndRequested(end_requested(key, token, to)));
        requests(play)
    };
    assert_eq!(tell(&mut play, 6, "b"), [], "of another leadership");
    assert_eq!(tell(&mut play, 7, "b"), [(key, Some("b".to_owned()))]);
    assert_eq!(tell(&mut play, 7, "b"), []);
    assert_eq!(tell(&mut play, 7, ""), [(key, None)]);
    assert!(matches!(play.core.sessions[&SESSION].state(), LeadershipState::Held { .. }), "it goes on leading");
}

#[test]
fn a_request_is_told_again_by_the_attach_and_with_a_grant_that_was_missed() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    play.answer_campaign(None);
    play.on(Event::Broken { stream: STREAM, hint: None });
    play.at(20).connect();
    let (stream, call) = play.last(is_attach).unwrap();
    let attached = v1::SessionAttached {
        session: SESSION,
        held: vec![grant(key, 9)],
        requested: vec![end_requested(key, 9, "b")],
        wish: v1::session_asked::Wish::Close.into(),
        ..Default::default()
    };
    play.frame(stream, call, server_frame::Body::Attached(attached));
    let decided = play.did(|it| matches!(it, Effect::Decided { .. })).expect("it leads");
    let requested = play.did(|it| matches!(it, Effect::EndRequested { .. })).expect("and is asked");
    assert!(decided < requested, "the leadership first");
    assert!(play.effects.contains(&Effect::SessionAsked { session: SESSION, wish: SessionWish::Close }));
}

#[test]
fn a_session_that_is_renewed_no_more_sends_no_keep_alives_and_is_lost_at_its_deadline() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.pass_until(334);
    let (_, call) = play.last(is_keep_alive).unwrap();
    play.acknowledge(call, SESSION);
    let until = 333 + BELIEF;
    play.at(400).frame(STREAM, 0, asked(v1::session_asked::Wish::StopRenewing));
    play.frame(STREAM, 0, asked(v1::session_asked::Wish::Close));
    let wishes = play.effects.iter().filter(|it| matches!(it, Effect::SessionAsked { .. }));
    let wish = SessionWish::StopRenewing;
    assert_eq!(wishes.collect::<Vec<_>>(), [&Effect::SessionAsked { session: SESSION, wish }], "it never becomes less");
    let sent = play.count(is_keep_alive);
    play.pass_until(until);
    assert!(matches!(play.state(key), LeadershipState::Held { .. }), "and nobody doubts the stream for that");
    assert!(play.did(is_dial).is_some_and(|first| first == 0), "but for the first time");
    play.pass_until(until + 2);
    assert_eq!((play.state(key), play.count(is_keep_alive)), (lost(LostWhy::Deadline), sent));
}

#[test]
fn a_keep_alive_that_is_answered_as_not_renewed_moves_no_deadline() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.pass_until(334);
    let (stream, call) = play.last(is_keep_alive).unwrap();
    let kept = v1::KeptAlive { sessions: vec![], not_renewed: vec![SESSION] };
    play.frame(stream, call, server_frame::Body::KeptAlive(kept));
    let wish = SessionWish::StopRenewing;
    assert!(play.effects.contains(&Effect::SessionAsked { session: SESSION, wish }));
    play.pass_until(BELIEF);
    assert_eq!(play.state(key), lost(LostWhy::Deadline));
    assert_eq!(play.count(is_attach), 0, "it is no reason to attach again");
}

#[test]
fn a_candidate_that_was_taken_out_of_the_line_is_told_and_its_session_can_campaign_again() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    play.answer_campaign(None);
    let withdrawn =
        v1::Withdrawn { session: SESSION, serial: key.serial, why: "removed".to_owned(), ..Default::default() };
    play.frame(STREAM, 0, server_frame::Body::Withdrawn(withdrawn));
    assert_eq!(play.decided(key).unwrap().unwrap_err().kind, ErrorKind::CandidacyEnded);
    let again = play.campaign(SESSION, "a");
    play.answer_campaign(Some(grant(again, 8)));
    assert!(play.decided(again).unwrap().is_ok());
}

#[test]
fn an_id_that_is_given_twice_is_refused_and_unknown_if_an_answer_was_lost() {
    let given = || ToOpen { given: Some(5), ..keep(TTL) };
    let mut play = Play::default();
    play.on(Event::Open { open: OpenId(1), what: given(), give_up_at: ms(5_000) });
    play.connect();
    let opened = |play: &Play, seq| {
        let (stream, call) = play.last(|it| matches!(it, client_frame::Body::Open(_))).unwrap();
        let header = Some(v1::Header { seq, ..v1::Header::default() });
        let opened = v1::SessionOpened { header, session: 1 << 63 | 5, ..Default::default() };
        (stream, call, server_frame::Body::Opened(opened))
    };
    let (stream, call, body) = opened(&play, 40);
    play.frame(stream, call, body);
    let is = IsOpen { session: 1 << 63 | 5, first_serial: 40 };
    assert!(play.effects.contains(&Effect::Opened { open: OpenId(1), result: Ok(is) }));

    let exists = || ErrorDetail { ..not_applied(Kind::SessionExists, "") };
    let refused = |play: &mut Play, open| {
        let frame = play.last(|it| matches!(it, client_frame::Body::Open(_))).unwrap();
        play.refuse(frame, exists());
        let result = play.take().into_iter().find_map(|it| match it {
            Effect::Opened { open: of, result } if of == open => Some(result),
            _ => None,
        });
        result.expect("it is answered").unwrap_err()
    };
    play.on(Event::Open { open: OpenId(2), what: given(), give_up_at: ms(5_000) });
    let error = refused(&mut play, OpenId(2));
    assert_eq!((error.kind, error.outcome), (ErrorKind::SessionExists, Outcome::NotApplied));

    play.on(Event::Open { open: OpenId(3), what: given(), give_up_at: ms(5_000) });
    play.on(Event::Broken { stream: STREAM, hint: None });
    play.at(20).connect();
    assert_eq!(refused(&mut play, OpenId(3)).outcome, Outcome::Unknown, "the first try may have opened it");
}

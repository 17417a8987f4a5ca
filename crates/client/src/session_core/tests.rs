//! The rules of the session core, one test each. The store is played by hand; time is a number.

use std::time::Duration;

use palisade_fence::Token;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{self, ErrorDetail, ServerFrame, client_frame, server_frame};
use palisade_wire::status::{not_applied, unknown};

use super::entry::believable;
use super::{Effect, Event, IsOpen, Key, OpenId, Search, SessionCore, StreamId, ToOpen, Way};
use crate::{Error, ErrorKind, Grant, LeadershipState, LostWhy, OnDisconnect, Outcome, SessionEnd};

mod asked;
mod belief;
#[cfg(feature = "planted")]
mod planted;
mod relayed;

const TTL: u64 = 1_000;
const SESSION: u64 = 11;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A session that keeps until its TTL.
fn keep(ttl_ms: u64) -> ToOpen {
    ToOpen { ttl: ms(ttl_ms), on_disconnect: OnDisconnect::KeepUntilTtl, given: None }
}

/// What was sent, by call.
type Frames = Vec<(StreamId, u64, client_frame::Body)>;

/// The core with a clock and a memory of what it did.
#[derive(Default)]
struct Play {
    core: SessionCore,
    now: u64,
    sent: Frames,
    effects: Vec<Effect>,
    streams: u64,
    serials: u64,
}

impl Play {
    fn at(&mut self, at_ms: u64) -> &mut Play {
        assert!(at_ms >= self.now);
        self.now = at_ms;
        self
    }

    fn on(&mut self, event: Event) {
        for effect in self.core.on(event, ms(self.now)) {
            if let Effect::Send { stream, frame } = &effect {
                self.sent.push((*stream, frame.call, frame.body.clone().unwrap()));
            }
            self.effects.push(effect);
        }
    }

    /// Everything that was done since the last look.
    fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Lets time pass, with every tick in its place.
    fn pass_until(&mut self, at_ms: u64) {
        while let Some(wake) = self.core.wake_at(ms(self.now)).filter(|wake| *wake <= ms(at_ms)) {
            self.now = u64::try_from(wake.as_nanos().div_ceil(1_000_000)).unwrap();
            self.on(Event::Tick);
        }
        self.now = at_ms;
        self.on(Event::Tick);
    }

    fn connect(&mut self) -> StreamId {
        self.connect_by(Way::Direct)
    }

    fn connect_by(&mut self, way: Way) -> StreamId {
        self.streams += 1;
        let stream = StreamId(self.streams);
        self.on(Event::Connected { stream, way });
        stream
    }

    fn frame(&mut self, stream: StreamId, call: u64, body: server_frame::Body) {
        self.on(Event::Received { stream, frame: ServerFrame { call, body: Some(body) } });
    }

    /// The last frame that `is` accepts: its stream and call.
    fn last(&self, is: impl Fn(&client_frame::Body) -> bool) -> Option<(StreamId, u64)> {
        self.sent.iter().rev().find(|(_, _, body)| is(body)).map(|(stream, call, _)| (*stream, *call))
    }

    fn count(&self, is: impl Fn(&client_frame::Body) -> bool) -> usize {
        self.sent.iter().filter(|(_, _, body)| is(body)).count()
    }

    /// A session that was opened at the present moment.
    fn open(&mut self, on_disconnect: OnDisconnect, ttl_ms: u64) -> StreamId {
        let give_up_at = ms(self.now + 5_000);
        let what = ToOpen { ttl: ms(ttl_ms), on_disconnect, given: None };
        self.on(Event::Open { open: OpenId(1), what, give_up_at });
        let stream = self.connect();
        self.answer_open(SESSION);
        stream
    }

    fn answer_open(&mut self, session: u64) {
        let (stream, call) = self.last(|it| matches!(it, client_frame::Body::Open(_))).unwrap();
        let opened = v1::SessionOpened { session, attach_generation: 1, ..Default::default() };
        self.frame(stream, call, server_frame::Body::Opened(opened));
    }

    fn campaign(&mut self, session: u64, name: &str) -> Key {
        self.serials += 1;
        let key = Key { session, serial: self.serials };
        let (election, candidate) = ("e".to_owned(), name.to_owned());
        self.on(Event::Campaign { key, election, candidate, value: v1::LeaderValue::default(), priority: 0 });
        key
    }

    fn answer_campaign(&mut self, grant: Option<v1::Grant>) {
        let (stream, call) = self.last(is_campaign).unwrap();
        self.frame(stream, call, server_frame::Body::Campaigned(v1::Campaigned { header: None, grant }));
    }

    /// A leadership of the open session, with this token.
    fn lead(&mut self, token: u64) -> Key {
        let key = self.campaign(SESSION, "a");
        self.answer_campaign(Some(grant(key, token)));
        assert!(matches!(self.state(key), LeadershipState::Held { .. }));
        key
    }

    fn acknowledge(&mut self, call: u64, session: u64) {
        let stream = self.sent.iter().find(|(_, it, _)| *it == call).unwrap().0;
        let kept = v1::KeptAlive { sessions: vec![session], ..Default::default() };
        self.frame(stream, call, server_frame::Body::KeptAlive(kept));
    }

    fn answer_attach(&mut self, held: Vec<v1::Grant>, waiting: Vec<u64>) {
        let (stream, call) = self.last(is_attach).unwrap();
        let waiting = waiting.into_iter().map(|serial| v1::WaitingCandidacy { serial, ..Default::default() }).collect();
        let attached = v1::SessionAttached { session: SESSION, held, waiting, ..Default::default() };
        self.frame(stream, call, server_frame::Body::Attached(attached));
    }

    fn answer_withdraw(&mut self, (stream, call): (StreamId, u64), key: Key) {
        let withdrew = v1::Withdrew { session: key.session, serial: key.serial, ..Default::default() };
        self.frame(stream, call, server_frame::Body::Withdrew(withdrew));
    }

    fn refuse(&mut self, (stream, call): (StreamId, u64), error: ErrorDetail) {
        self.frame(stream, call, server_frame::Body::Refused(v1::Refused { error: Some(error) }));
    }

    /// What the holder was told last.
    fn state(&self, key: Key) -> LeadershipState {
        let told = self.effects.iter().rev().find_map(|effect| match effect {
            Effect::State { key: of, state } if *of == key => Some(state.clone()),
            Effect::Decided { key: of, result: Ok((_, state)) } if *of == key => Some(state.clone()),
            _ => None,
        });
        told.expect("the holder was told something")
    }

    fn decided(&self, key: Key) -> Option<Result<Grant, Error>> {
        self.effects.iter().rev().find_map(|effect| match effect {
            Effect::Decided { key: of, result } if *of == key => Some(result.clone().map(|(grant, _)| grant)),
            _ => None,
        })
    }

    fn did(&self, is: impl Fn(&Effect) -> bool) -> Option<usize> {
        self.effects.iter().position(is)
    }
}

fn grant(key: Key, token: u64) -> v1::Grant {
    v1::Grant {
        election: "e".to_owned(),
        candidate_id: "a".to_owned(),
        session: key.session,
        serial: key.serial,
        token,
        ..v1::Grant::default()
    }
}

fn is_campaign(body: &client_frame::Body) -> bool {
    matches!(body, client_frame::Body::Campaign(_))
}

fn is_attach(body: &client_frame::Body) -> bool {
    matches!(body, client_frame::Body::Attach(_))
}

fn is_withdraw(body: &client_frame::Body) -> bool {
    matches!(body, client_frame::Body::Withdraw(_))
}

fn is_close(body: &client_frame::Body) -> bool {
    matches!(body, client_frame::Body::Close(_))
}

fn is_keep_alive(body: &client_frame::Body) -> bool {
    matches!(body, client_frame::Body::KeepAlive(_))
}

fn is_dial(effect: &Effect) -> bool {
    matches!(effect, Effect::Dial { .. })
}

fn is_lost(effect: &Effect) -> bool {
    matches!(effect, Effect::State { state: LeadershipState::Lost { .. }, .. })
}

fn held(deadline_ms: u64) -> LeadershipState {
    LeadershipState::Held { deadline: ms(deadline_ms) }
}

fn suspect(deadline_ms: u64) -> LeadershipState {
    LeadershipState::Suspect { deadline: ms(deadline_ms) }
}

fn lost(why: LostWhy) -> LeadershipState {
    LeadershipState::Lost { why }
}

/// 1,000 ms less 1 % less 2 ms.
const BELIEF: u64 = 988;

#[test]
fn belief_is_the_ttl_less_the_drift_of_two_clocks() {
    assert_eq!(believable(ms(TTL)), ms(BELIEF));
    assert_eq!(believable(ms(200)), ms(196));
    assert_eq!(believable(ms(1)), Duration::ZERO);
}

#[test]
fn the_clients_lost_timer_is_longer_than_the_servers() {
    // The deadline counts from the send time, however late the answer: of the opening frame, then of keep-alives.
    let mut play = Play::default();
    play.on(Event::Open { open: OpenId(1), what: keep(TTL), give_up_at: ms(5_000) });
    play.at(100).connect();
    play.at(400).answer_open(SESSION);
    let key = play.campaign(SESSION, "a");
    play.at(420).answer_campaign(Some(grant(key, 7)));
    assert_eq!(play.state(key), held(100 + BELIEF));
    play.pass_until(440);
    let (_, call) = play.last(is_keep_alive).expect("a third of the TTL after the opening frame");
    play.at(900).acknowledge(call, SESSION);
    assert_eq!(play.state(key), held(434 + BELIEF), "433.3 ms, and the tick is at the next millisecond");
}

#[test]
fn keep_alives_go_out_three_times_per_ttl_and_answers_may_overtake_each_other() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, 900);
    let key = play.lead(7);
    let (_, open_call) = play.last(|it| matches!(it, client_frame::Body::Open(_))).unwrap();
    play.pass_until(300);
    let (_, first) = play.last(is_keep_alive).unwrap();
    assert!(first > open_call);
    // Something is heard, so the stream is not doubted.
    play.at(500).frame(StreamId(1), 0, server_frame::Body::KeptAlive(v1::KeptAlive::default()));
    play.pass_until(600);
    let (_, second) = play.last(is_keep_alive).unwrap();
    assert_ne!(first, second);
    play.acknowledge(second, SESSION);
    let newest = play.state(key);
    assert_eq!(newest, held(600 + 889));
    play.acknowledge(first, SESSION);
    assert_eq!(play.state(key), newest, "an older answer does not move the deadline back");
    // An answer for a session that the frame did not name renews nobody.
    let (stream, call) = play.last(is_keep_alive).unwrap();
    play.frame(stream, call, server_frame::Body::KeptAlive(v1::KeptAlive { sessions: vec![99], ..Default::default() }));
}

#[test]
fn a_broken_stream_makes_it_suspect_and_attaching_confirms_it_under_the_same_token() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.at(50).on(Event::Broken { stream, hint: None });
    assert_eq!(play.state(key), suspect(BELIEF));
    assert!(play.did(is_dial).is_some());
    play.at(80).connect();
    assert_eq!(play.state(key), suspect(BELIEF), "a stream alone confirms nothing");
    play.at(90).answer_attach(vec![grant(key, 7)], vec![]);
    assert_eq!(play.state(key), held(BELIEF), "attaching renews nothing");
    let (_, call) = play.last(is_keep_alive).expect("a keep-alive goes out at once");
    play.at(95).acknowledge(call, SESSION);
    assert_eq!(play.state(key), held(90 + BELIEF));
}

#[test]
fn one_transient_renewal_error_drops_a_leadership_that_had_time_left() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.pass_until(340);
    let (_, call) = play.last(is_keep_alive).unwrap();
    play.refuse((stream, call), unknown(Kind::Unspecified, "try again"));
    assert!(!matches!(play.state(key), LeadershipState::Lost { .. }));
    play.at(350).answer_attach(vec![grant(key, 7)], vec![]);
    let (_, call) = play.last(is_keep_alive).unwrap();
    play.at(360).acknowledge(call, SESSION);
    assert_eq!(play.state(key), held(350 + BELIEF));
}

#[test]
fn keep_until_ttl_is_lost_at_the_deadline_and_the_session_is_closed_before_anything_else() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.at(50).on(Event::Broken { stream, hint: None });
    play.pass_until(BELIEF - 1);
    assert_eq!(play.state(key), suspect(BELIEF));
    play.pass_until(BELIEF);
    assert_eq!(play.state(key), lost(LostWhy::Deadline));
    assert!(play.effects.contains(&Effect::Over { session: SESSION, why: SessionEnd::LeadershipLost }));
    // The store may still hold it for this session: it is told as soon as there is a stream.
    play.at(1_500).connect();
    assert!(play.last(is_close).is_some());
    assert_eq!(play.count(is_attach), 0);
}

#[test]
fn leadership_is_lost_once_and_never_regained_by_the_same_process() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    play.lead(7);
    play.on(Event::Broken { stream, hint: None });
    play.pass_until(BELIEF);
    // The user opens another session and campaigns under the same id while the old session may still hold the election.
    play.on(Event::Open { open: OpenId(2), what: keep(TTL), give_up_at: ms(9_000) });
    play.at(1_100).connect();
    play.answer_open(12);
    let again = play.campaign(12, "a");
    assert_eq!(play.count(is_campaign), 1, "the old session holds the same name: its end comes first");
    let (stream, call) = play.last(is_close).unwrap();
    play.frame(stream, call, server_frame::Body::Closed(v1::SessionClosed { header: None, session: SESSION }));
    assert!(play.effects.contains(&Effect::Closed { session: SESSION, result: Ok(()) }));
    assert_eq!(play.count(is_campaign), 2);
    play.answer_campaign(Some(grant(again, 8)));
    assert_eq!(play.decided(again).unwrap().unwrap().token, Token::new(0, 8));
}

#[test]
fn release_after_is_lost_after_the_reconnect_window_or_the_deadline() {
    // (release after, TTL, lost after the break): min(max(N, 3 s), deadline). The break is at 0.
    for (after, ttl, at, why) in [
        (0, 10_000, 3_000, LostWhy::Disconnected),
        (5_000, 10_000, 5_000, LostWhy::Disconnected),
        (0, 1_000, 988, LostWhy::Deadline),
        (60_000, 10_000, 9_898, LostWhy::Deadline),
    ] {
        let mut play = Play::default();
        let stream = play.open(OnDisconnect::ReleaseAfter(ms(after)), ttl);
        let key = play.lead(7);
        play.on(Event::Broken { stream, hint: None });
        assert_eq!(play.state(key), suspect(at), "N {after}, TTL {ttl}");
        play.pass_until(at - 1);
        assert_eq!(play.state(key), suspect(at));
        play.pass_until(at);
        assert_eq!(play.state(key), lost(why));
    }
}

#[test]
fn what_came_after_the_limit_came_too_late() {
    // The process was stopped past its deadline; the answer waited in its socket.
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.pass_until(340);
    let (_, call) = play.last(is_keep_alive).unwrap();
    play.at(BELIEF).acknowledge(call, SESSION);
    assert_eq!(play.state(key), lost(LostWhy::Deadline));
}

#[test]
fn a_campaign_returns_success_although_its_lease_expired_while_it_waited() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    play.answer_campaign(None);
    // No acknowledged keep-alive for a TTL, then a grant: it cannot be believed, so it is not handed over yet.
    play.at(1_200).frame(
        stream,
        0,
        server_frame::Body::Granted(v1::Granted { header: None, grant: Some(grant(key, 7)) }),
    );
    assert_eq!(play.decided(key), None);
    let (_, call) = play.last(is_keep_alive).unwrap();
    play.at(1_210).acknowledge(call, SESSION);
    assert_eq!(play.decided(key).unwrap().unwrap().token, Token::new(0, 7));
    assert_eq!(play.state(key), held(1_200 + BELIEF));
}

#[test]
fn a_granted_campaign_whose_session_turns_out_to_have_ended_is_an_error() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    play.answer_campaign(None);
    play.at(1_200).frame(
        stream,
        0,
        server_frame::Body::Granted(v1::Granted { header: None, grant: Some(grant(key, 7)) }),
    );
    let ended = v1::SessionEnded { header: None, session: SESSION, why: "expired".to_owned() };
    play.frame(stream, 0, server_frame::Body::Ended(ended));
    let error = play.decided(key).unwrap().unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::SessionEnded, Outcome::NotApplied));
}

#[test]
fn a_standbys_lease_lapses_while_waiting_and_it_can_never_be_elected_again_with_no_error() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    play.answer_campaign(None);
    play.on(Event::Broken { stream, hint: None });
    // It holds nothing, so its own deadline ends nothing: the store may give it a new TTL.
    play.pass_until(3_000);
    assert_eq!(play.decided(key), None);
    play.connect();
    let attach = play.last(is_attach).unwrap();
    play.refuse(attach, not_applied(Kind::SessionEnded, ""));
    assert_eq!(play.decided(key).unwrap().unwrap_err().kind, ErrorKind::SessionEnded);
    assert!(play.did(|it| matches!(it, Effect::Over { why: SessionEnd::Store(_), .. })).is_some());
}

#[test]
fn a_campaign_has_no_timeout_and_keeps_its_serial_through_reconnects() {
    let mut play = Play::default();
    let mut stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    // Not answered: it is sent again under the same serial.
    for round in 1..5 {
        let (_, _, body) = play.sent.iter().rev().find(|(_, _, body)| is_campaign(body)).unwrap();
        let client_frame::Body::Campaign(frame) = body else { unreachable!() };
        assert_eq!(frame.serial, key.serial);
        assert_eq!(play.count(is_campaign), round);
        play.on(Event::Broken { stream, hint: None });
        play.pass_until(play.now + 1_000_000);
        stream = play.connect();
        play.answer_attach(vec![], vec![]);
    }
    // Answered: it is not sent again.
    play.answer_campaign(None);
    assert!(play.effects.contains(&Effect::Answered { key }));
    play.on(Event::Broken { stream, hint: None });
    play.pass_until(play.now + 1_000);
    play.connect();
    let sent = play.count(is_campaign);
    play.answer_attach(vec![], vec![key.serial]);
    assert_eq!(play.count(is_campaign), sent);
    assert_eq!(play.decided(key), None);
}

#[test]
fn a_grant_that_was_missed_is_told_by_the_attach() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    play.answer_campaign(None);
    play.on(Event::Broken { stream, hint: None });
    play.at(20).connect();
    play.at(30).answer_attach(vec![grant(key, 9)], vec![]);
    assert_eq!(play.decided(key).unwrap().unwrap().token, Token::new(0, 9));
}

#[test]
fn a_failed_campaign_leaves_its_candidate_behind() {
    // Abandoned before it was sent: nothing to do.
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    play.on(Event::Broken { stream, hint: None });
    let unsent = play.campaign(SESSION, "a");
    play.on(Event::Abandon { key: unsent });
    play.at(20).connect();
    play.answer_attach(vec![], vec![]);
    assert_eq!(play.count(is_campaign), 0);

    // Abandoned while it waits: withdrawn by its serial. A grant that comes before the answer is nobody's, and ends with it.
    let key = play.campaign(SESSION, "a");
    play.answer_campaign(None);
    play.on(Event::Abandon { key });
    let withdrawn = play.last(is_withdraw).expect("it is withdrawn at once");
    play.frame(StreamId(2), 0, server_frame::Body::Granted(v1::Granted { header: None, grant: Some(grant(key, 7)) }));
    assert!(play.did(|it| matches!(it, Effect::EndGrant { .. })).is_none());
    assert_eq!(play.decided(key), None);

    // Nobody enters under the same name before, or the store would answer with the place that is being given up.
    let next = play.campaign(SESSION, "a");
    assert_eq!(play.count(is_campaign), 1);
    play.answer_withdraw(withdrawn, key);
    assert_eq!(play.count(is_campaign), 2);
    play.answer_campaign(None);

    // The answer is lost: it is withdrawn again, also if the store shows nothing of it, because the campaign may come late.
    play.on(Event::Abandon { key: next });
    play.on(Event::Broken { stream: StreamId(2), hint: None });
    play.at(40).connect();
    let before = play.count(is_withdraw);
    play.answer_attach(vec![], vec![]);
    assert_eq!(play.count(is_withdraw), before + 1);
    let again = play.last(is_withdraw).unwrap();
    play.refuse(again, not_applied(Kind::Overloaded, ""));
    play.pass_until(60);
    assert_eq!(play.count(is_withdraw), before + 2, "a full queue drains in milliseconds");
    let again = play.last(is_withdraw).unwrap();
    play.answer_withdraw(again, next);
    play.pass_until(200);
    assert_eq!(play.count(is_withdraw), before + 2, "and then no more");
}

#[test]
fn what_waits_in_the_store_and_is_nobodys_here_is_withdrawn() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    play.on(Event::Broken { stream, hint: None });
    play.at(20).connect();
    play.answer_attach(vec![], vec![77]);
    let (_, call) = play.last(is_withdraw).unwrap();
    let sent = play.sent.iter().find(|(_, it, _)| *it == call).map(|(_, _, body)| body.clone());
    assert_eq!(sent, Some(client_frame::Body::Withdraw(v1::Withdraw { session: SESSION, serial: 77 })));
}

#[test]
fn a_late_create_callback_resurrects_an_old_candidate() {
    // A grant for a candidacy that this process does not know (any more) is ended, not believed.
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let stranger = Key { session: SESSION, serial: 77 };
    play.frame(stream, 0, server_frame::Body::Granted(v1::Granted { header: None, grant: Some(grant(stranger, 7)) }));
    assert_eq!(play.decided(stranger), None);
    assert!(play.did(|it| matches!(it, Effect::EndGrant { .. })).is_some());
}

#[test]
fn the_in_memory_am_leader_flag_is_cleared_after_the_lease_is_released() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.take();
    play.on(Event::StepDown { key });
    let told = play.did(is_lost).unwrap();
    let released = play.did(|it| matches!(it, Effect::EndGrant { .. })).unwrap();
    assert!(told < released);

    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.take();
    play.on(Event::Close { session: SESSION });
    let told = play.did(is_lost).unwrap();
    let released = play.did(|it| matches!(it, Effect::Send { .. })).unwrap();
    assert!(told < released);
    assert_eq!(play.state(key), lost(LostWhy::Closed));
}

#[test]
fn a_failed_resign_forgets_the_leadership() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.on(Event::StepDown { key });
    play.on(Event::Broken { stream, hint: None });
    // The store still holds it when the session is attached again. A campaign under the same name would be answered with
    // the grant that is about to end, so it waits.
    play.at(20).connect();
    play.answer_attach(vec![grant(key, 7)], vec![]);
    let again = play.campaign(SESSION, "a");
    assert_eq!(play.count(is_campaign), 1);
    assert_eq!(play.effects.iter().filter(|it| matches!(it, Effect::EndGrant { .. })).count(), 1);
    play.on(Event::GrantEnded { session: SESSION, token: Token::new(0, 7) });
    assert_eq!(play.count(is_campaign), 2);
    play.answer_campaign(Some(grant(again, 8)));
    assert_eq!(play.decided(again).unwrap().unwrap().token, Token::new(0, 8));
}

#[test]
fn it_is_lost_when_the_store_says_so_and_the_session_can_campaign_again() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    let revoked = v1::Revoked {
        session: SESSION,
        serial: key.serial,
        election: "e".to_owned(),
        token: 7,
        why: "removed".to_owned(),
        ..Default::default()
    };
    play.frame(stream, 0, server_frame::Body::Revoked(revoked));
    assert_eq!(play.state(key), lost(LostWhy::Store("removed".to_owned())));
    let again = play.campaign(SESSION, "a");
    play.answer_campaign(Some(grant(again, 8)));
    assert!(matches!(play.state(again), LeadershipState::Held { .. }));
}

#[test]
fn a_leadership_that_ended_while_nobody_was_connected_is_lost_by_the_attach() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.on(Event::Broken { stream, hint: None });
    play.at(20).connect();
    play.answer_attach(vec![], vec![]);
    assert!(matches!(play.state(key), LeadershipState::Lost { why: LostWhy::Store(_) }));
}

#[test]
fn a_silent_stream_is_replaced_before_it_is_closed() {
    let mut play = Play::default();
    let old = play.open(OnDisconnect::ReleaseAfter(ms(0)), TTL);
    let key = play.lead(7);
    play.pass_until(340);
    assert!(matches!(play.state(key), LeadershipState::Held { .. }));
    play.take();
    play.pass_until(334 + 250 + 1);
    assert!(matches!(play.state(key), LeadershipState::Suspect { .. }), "a quarter of the TTL without a word");
    assert!(play.did(is_dial).is_some());
    assert_eq!(play.did(|it| matches!(it, Effect::HangUp { .. })), None, "closing it would be a disconnect");
    let new = play.connect();
    assert_eq!(play.last(is_attach).unwrap().0, new);
    assert_eq!(play.did(|it| matches!(it, Effect::HangUp { .. })), None);
    play.answer_attach(vec![grant(key, 7)], vec![]);
    assert!(play.effects.contains(&Effect::HangUp { stream: old }));
    assert!(matches!(play.state(key), LeadershipState::Held { .. }));
}

#[test]
fn a_stream_that_speaks_again_is_kept() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.lead(7);
    play.pass_until(600);
    assert!(matches!(play.state(key), LeadershipState::Suspect { .. }));
    let (_, call) = play.last(is_keep_alive).unwrap();
    play.acknowledge(call, SESSION);
    assert!(matches!(play.state(key), LeadershipState::Held { .. }));
    assert!(play.effects.contains(&Effect::StopDialing));
    // The dial may have been faster than its end.
    let late = play.connect();
    assert!(play.effects.contains(&Effect::HangUp { stream: late }));
    assert_eq!(play.count(is_attach), 0);
}

#[test]
fn a_node_that_is_not_the_store_leader_is_left_and_its_hint_followed() {
    let mut play = Play::default();
    play.on(Event::Open { open: OpenId(1), what: keep(TTL), give_up_at: ms(5_000) });
    let stream = play.connect();
    play.take();
    let sent = play.last(|it| matches!(it, client_frame::Body::Open(_))).unwrap();
    let leader = v1::StoreLeader { node_id: 3, address: "c:3".to_owned() };
    play.refuse(sent, ErrorDetail { store_leader: Some(leader), ..not_applied(Kind::NotStoreLeader, "") });
    assert!(play.effects.contains(&Effect::HangUp { stream }));
    assert!(play.effects.contains(&Effect::Dial { hint: Some("c:3".to_owned()), search: Search::Anywhere }));
}

#[test]
fn streams_that_bring_nothing_are_not_opened_in_a_storm() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, 600_000);
    play.take();
    play.on(Event::Broken { stream, hint: None });
    assert!(play.did(is_dial).is_some(), "at once, the first time");
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let stream = play.connect();
        play.take();
        play.on(Event::Broken { stream, hint: None });
        assert_eq!(play.did(is_dial), None);
        let before = play.now;
        while play.did(is_dial).is_none() {
            play.now += 1;
            play.on(Event::Tick);
        }
        pauses.push(play.now - before);
    }
    assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
}

#[test]
fn an_overloaded_store_is_asked_again_later() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    let sent = play.last(is_campaign).unwrap();
    play.refuse(sent, not_applied(Kind::Overloaded, ""));
    assert_eq!(play.count(is_campaign), 1);
    play.pass_until(10);
    assert_eq!(play.count(is_campaign), 2);
    assert_eq!(play.decided(key), None);
}

#[test]
fn an_attach_that_was_overtaken_is_repeated() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    let sent = play.last(is_campaign).unwrap();
    let elsewhere =
        ErrorDetail { field: "session".to_owned(), ..not_applied(Kind::InvalidArgument, "attach it first") };
    play.refuse(sent, elsewhere);
    assert_eq!(play.decided(key), None);
    play.at(10).answer_attach(vec![], vec![]);
    assert_eq!(play.count(is_campaign), 2);
}

#[test]
fn the_hint_of_a_stream_that_ends_is_followed() {
    let mut play = Play::default();
    let stream = play.open(OnDisconnect::KeepUntilTtl, TTL);
    play.take();
    play.on(Event::Broken { stream, hint: Some("c:3".to_owned()) });
    assert!(play.effects.contains(&Effect::Dial { hint: Some("c:3".to_owned()), search: Search::Anywhere }));
}

#[test]
fn a_refused_campaign_says_why() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    let key = play.campaign(SESSION, "a");
    let sent = play.last(is_campaign).unwrap();
    play.refuse(sent, not_applied(Kind::CandidateExists, "take another id"));
    assert_eq!(play.decided(key).unwrap().unwrap_err().kind, ErrorKind::CandidateExists);
    // The same name twice in one session would be one place in the line for two callers.
    let first = play.campaign(SESSION, "a");
    let second = play.campaign(SESSION, "a");
    assert_eq!(play.decided(first), None);
    assert_eq!(play.decided(second).unwrap().unwrap_err().kind, ErrorKind::CandidateExists);
    let nowhere = play.campaign(99, "a");
    assert_eq!(play.decided(nowhere).unwrap().unwrap_err().kind, ErrorKind::SessionEnded);
}

#[test]
fn opening_ends_with_its_time_and_a_late_session_is_closed() {
    let mut play = Play::default();
    play.on(Event::Open { open: OpenId(1), what: keep(TTL), give_up_at: ms(500) });
    play.pass_until(500);
    let opened = |play: &Play| match play.effects.iter().rev().find(|it| matches!(it, Effect::Opened { .. })) {
        Some(Effect::Opened { result, .. }) => result.clone().unwrap_err(),
        _ => unreachable!("it was decided"),
    };
    let error = opened(&play);
    assert_eq!((error.outcome, error.kind), (Outcome::NotApplied, ErrorKind::NoStoreLeader));

    play.on(Event::Open { open: OpenId(2), what: keep(TTL), give_up_at: ms(1_000) });
    play.connect();
    play.pass_until(1_000);
    assert_eq!(opened(&play).outcome, Outcome::Unknown);
    play.answer_open(SESSION);
    assert!(play.last(is_close).is_some());
}

#[test]
fn a_process_with_many_sessions_renews_them_in_several_frames() {
    let mut play = Play::default();
    play.open(OnDisconnect::KeepUntilTtl, TTL);
    for extra in 0..1_024 {
        play.on(Event::Open { open: OpenId(10 + extra), what: keep(TTL), give_up_at: ms(5_000) });
        play.answer_open(100 + extra);
    }
    play.pass_until(334);
    assert_eq!(play.count(is_keep_alive), 2);
}

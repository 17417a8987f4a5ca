//! The rules of sessions, one test each.

use palisade_coord_core::{AttachGeneration, EndReason};
use palisade_liveness::{CloseReason, Effect, Event, Fate, NotRenewed, StreamId};

use crate::run::{ELECTION_TIMEOUT_MS, Quorum, Run, ack, attached_as, id, keep, ms, release};

#[test]
fn a_deadline_is_the_arrival_of_a_confirmed_keep_alive_plus_the_ttl() {
    let mut run = Run::with(keep(7, 1_000));
    run.nothing_until(600).keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
    run.nothing_until(1_599).at(1_600);
    run.take_end(7, EndReason::Expired, 1);
}

#[test]
fn a_keep_alive_waits_for_a_round_that_began_after_it_arrived() {
    let mut run = Run::with(keep(7, 1_000));
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let first = run.round.expect("a keep-alive wants a round");
    run.at(10).keep_alive(1, 2, &[7]);
    assert_eq!(run.round, Some(first), "one round for all that wait; the next begins when it is done");
    assert_eq!(run.take(), []);

    run.tell(Event::QuorumConfirmed { round: first });
    assert_eq!(run.take(), [ack(1, 1, &[7])], "the second arrived after that round began");
    let second = run.round.expect("the second wants one too");
    assert_ne!(first, second);
    run.tell(Event::QuorumConfirmed { round: first });
    assert_eq!(run.take(), [], "a round confirms once");
    run.tell(Event::QuorumConfirmed { round: second });
    assert_eq!(run.take(), [ack(1, 2, &[7])]);
}

#[test]
fn a_slow_round_does_not_hold_up_the_next() {
    let mut run = Run::with(keep(7, 1_000));
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let first = run.round;
    run.at(ELECTION_TIMEOUT_MS / 4 + 30);
    let second = run.round.expect("another was begun");
    assert_ne!(first, Some(second));
    run.tell(Event::QuorumConfirmed { round: second });
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
    run.tell(Event::QuorumConfirmed { round: first.expect("it was begun") });
    assert_eq!(run.take(), []);
}

#[test]
fn a_failed_round_is_followed_by_another() {
    let mut run = Run::with(keep(7, 1_000));
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let first = run.round.expect("a keep-alive wants a round");
    run.tell(Event::ConfirmFailed { round: first });
    assert_eq!(run.round, Some(first), "not at once: the next tick begins it");
    run.at(20);
    let second = run.round.expect("it was begun");
    assert_ne!(first, second);
    run.tell(Event::QuorumConfirmed { round: second });
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
}

#[test]
fn a_keep_alive_that_waits_for_its_round_puts_off_the_expiry() {
    let mut run = Run::with(keep(7, 200));
    run.nothing_until(190);
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let round = run.round.expect("a keep-alive wants a round");
    run.nothing_until(250);
    run.tell(Event::QuorumConfirmed { round });
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
    run.quorum = Quorum::Confirms;
    run.nothing_until(389).at(390);
    run.take_end(7, EndReason::Expired, 1);
}

#[test]
fn one_keep_alive_renews_many_sessions() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::Opened { known: keep(8, 500), stream: StreamId(1) });
    run.at(400).keep_alive(1, 1, &[7, 8]);
    assert_eq!(run.take(), [ack(1, 1, &[7, 8])]);
    run.nothing_until(899).at(900);
    run.take_end(8, EndReason::Expired, 1);
    run.nothing_until(1_399).at(1_400);
    run.take_end(7, EndReason::Expired, 1);
}

#[test]
fn what_is_not_attached_here_is_not_renewed() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::Opened { known: keep(8, 1_000), stream: StreamId(2) });
    run.keep_alive(1, 1, &[7, 8, 9]);
    let refused = |session, why| Effect::RefuseKeepAlive { stream: StreamId(1), call: 1, session: id(session), why };
    assert_eq!(run.take(), [ack(1, 1, &[7]), refused(8, NotRenewed::NotAttachedHere), refused(9, NotRenewed::Ended)]);
}

#[test]
fn a_keep_alive_right_behind_its_attach_is_neither_refused_nor_lost() {
    let mut run = Run::leading(vec![keep(7, 1_000)]);
    run.quorum = Quorum::Silent;
    run.tell(Event::AttachReceived { session: id(7) });
    run.keep_alive(1, 1, &[7]);
    let round = run.round.expect("a keep-alive wants a round");
    run.tell(Event::Attached { known: attached_as(keep(7, 1_000), 2), stream: StreamId(1) });
    run.tell(Event::QuorumConfirmed { round });
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
}

#[test]
fn renewals_are_held_while_an_expiry_is_in_flight_and_answered_when_the_fate_is_known() {
    for (fate, answered) in [
        (Fate::AttachChanged { attach: AttachGeneration(2) }, vec![ack(1, 1, &[7])]),
        (Fate::NotApplied, vec![ack(1, 1, &[7])]),
        (Fate::Ended, vec![]),
    ] {
        let mut run = Run::with(keep(7, 1_000));
        run.at(1_000);
        let ticket = run.take_end(7, EndReason::Expired, 1);
        run.at(1_001).keep_alive(1, 1, &[7]);
        assert_eq!(run.take(), [ack(1, 1, &[])], "its round is done, but its fate is not known");
        run.at(1_010).decide(7, ticket, fate);
        assert_eq!(run.take(), answered, "{fate:?}");
        if fate == Fate::Ended {
            assert_eq!(run.liveness.session_count(), 0);
        } else {
            assert_eq!(run.nothing_until(1_999).liveness.session_count(), 1);
        }
    }
}

#[test]
fn an_end_of_unknown_fate_is_proposed_again_on_the_same_condition() {
    let mut run = Run::with(keep(7, 1_000));
    run.at(1_000);
    let first = run.take_end(7, EndReason::Expired, 1);
    run.decide(7, first, Fate::Unknown);
    run.keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[])], "the first proposal may yet be applied");
    run.nothing_until(1_099).at(1_100);
    let second = run.take_end(7, EndReason::Expired, 1);
    run.decide(7, first, Fate::NotApplied);
    assert_eq!(run.take(), [], "that is no longer the proposal that counts");
    run.decide(7, second, Fate::AttachChanged { attach: AttachGeneration(2) });
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
}

#[test]
fn an_end_that_found_no_room_is_proposed_again_a_little_later() {
    let mut run = Run::with(keep(7, 1_000));
    run.at(1_000);
    let ticket = run.take_end(7, EndReason::Expired, 1);
    run.decide(7, ticket, Fate::NotApplied);
    run.nothing_until(1_099).at(1_100);
    run.take_end(7, EndReason::Expired, 1);
}

#[test]
fn an_expiry_is_conditional_on_the_attach_generation_seen() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::AttachReceived { session: id(7) });
    run.tell(Event::Attached { known: attached_as(keep(7, 1_000), 2), stream: StreamId(2) });
    run.at(1_000);
    let ticket = run.take_end(7, EndReason::Expired, 2);
    // Attached once more, by somebody whose answer was lost: the state knows better.
    run.decide(7, ticket, Fate::AttachChanged { attach: AttachGeneration(3) });
    run.nothing_until(1_999).at(2_000);
    run.take_end(7, EndReason::Expired, 3);
}

#[test]
fn an_older_attach_that_is_answered_later_changes_nothing() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::AttachReceived { session: id(7) });
    run.tell(Event::AttachReceived { session: id(7) });
    run.tell(Event::Attached { known: attached_as(keep(7, 1_000), 3), stream: StreamId(3) });
    run.tell(Event::Attached { known: attached_as(keep(7, 1_000), 2), stream: StreamId(2) });
    run.keep_alive(3, 1, &[7]);
    assert_eq!(run.take(), [ack(3, 1, &[7])]);
}

#[test]
fn a_late_tick_moves_all_deadlines_and_expires_nobody_before() {
    let mut run = Run::with(keep(7, 900));
    run.tell(Event::Opened { known: release(8, 2_000, 600), stream: StreamId(2) });
    run.nothing_until(400);
    run.tell(Event::StreamBroke { stream: StreamId(2) }); // 8 is due at 1,000
    // The tick due at 420 comes at 1,220: late by 800.
    run.stand_still_until(1_220).tell(Event::Tick);
    assert_eq!(run.take(), []);
    run.nothing_until(900 + 800 + 300 - 1).at(900 + 800 + 300); // and one keep-alive interval: 900 / 3
    run.take_end(7, EndReason::Expired, 1);
    run.nothing_until(1_000 + 800 + 666).at(1_000 + 800 + 667);
    run.take_end(8, EndReason::Disconnected, 1);
}

#[test]
fn standing_still_shows_by_any_event() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::Opened { known: release(8, 1_000, 0), stream: StreamId(2) });
    run.nothing_until(400);
    run.stand_still_until(5_000).tell(Event::StreamBroke { stream: StreamId(3) });
    run.nothing_until(5_900);
    run.keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
}

#[test]
fn under_a_new_store_leader_a_session_that_is_kept_has_its_ttl_anew() {
    let mut run = Run::leading(vec![keep(7, 1_000), keep(8, 2_000)]);
    run.nothing_until(999).at(1_000);
    run.take_end(7, EndReason::Expired, 1);
    run.nothing_until(1_999).at(2_000);
    run.take_end(8, EndReason::Expired, 1);
}

#[test]
fn under_a_new_store_leader_a_session_that_is_released_has_at_least_three_seconds_to_attach() {
    let mut run = Run::leading(vec![release(7, 500, 0), release(8, 500, 4_000)]);
    run.nothing_until(2_999).at(3_000);
    run.take_end(7, EndReason::Disconnected, 1);
    run.tell(Event::AttachReceived { session: id(8) });
    run.tell(Event::Attached { known: attached_as(release(8, 500, 4_000), 2), stream: StreamId(1) });
    run.nothing_until(3_499).at(3_500);
    run.take_end(8, EndReason::Expired, 2);
}

#[test]
fn the_window_does_not_end_while_an_attach_received_in_it_is_undecided() {
    let mut run = Run::leading(vec![release(7, 500, 0)]);
    run.nothing_until(2_990).tell(Event::AttachReceived { session: id(7) });
    run.nothing_until(3_200).tell(Event::Attached { known: attached_as(release(7, 500, 0), 2), stream: StreamId(1) });
    run.nothing_until(3_699).at(3_700);
    run.take_end(7, EndReason::Expired, 2);

    let mut run = Run::leading(vec![release(7, 500, 0)]);
    run.nothing_until(2_990).tell(Event::AttachReceived { session: id(7) });
    run.nothing_until(3_200).tell(Event::NotAttached { session: id(7) });
    run.at(3_200);
    run.take_end(7, EndReason::Disconnected, 1);
}

#[test]
fn a_broken_stream_starts_the_timer_of_sessions_that_are_released() {
    let mut run = Run::with(release(7, 1_000, 200));
    run.tell(Event::Opened { known: release(8, 1_000, 0), stream: StreamId(1) });
    run.tell(Event::Opened { known: keep(9, 1_000), stream: StreamId(1) });
    run.nothing_until(100).tell(Event::StreamBroke { stream: StreamId(1) });
    run.take_end(8, EndReason::Disconnected, 1); // at once, without waiting for a tick
    run.nothing_until(299).at(300);
    run.take_end(7, EndReason::Disconnected, 1);
    run.nothing_until(999).at(1_000);
    run.take_end(9, EndReason::Expired, 1); // nothing but its TTL
}

#[test]
fn a_disconnect_never_outlasts_the_ttl() {
    let mut run = Run::with(release(7, 500, 60_000));
    run.nothing_until(100).tell(Event::StreamBroke { stream: StreamId(1) });
    run.nothing_until(499).at(500);
    run.take_end(7, EndReason::Expired, 1);
}

#[test]
fn a_release_does_not_wait_for_keep_alives_of_the_broken_stream() {
    let mut run = Run::with(release(7, 1_000, 0));
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    run.tell(Event::StreamBroke { stream: StreamId(1) });
    run.take_end(7, EndReason::Disconnected, 1);
    let round = run.round.expect("a keep-alive wants a round");
    run.tell(Event::QuorumConfirmed { round });
    assert_eq!(run.take(), [ack(1, 1, &[])], "nothing is renewed for a stream that is gone");
}

#[test]
fn a_session_that_attached_again_in_time_is_not_released() {
    let mut run = Run::with(release(7, 1_000, 200));
    run.nothing_until(100).tell(Event::StreamBroke { stream: StreamId(1) });
    run.nothing_until(250).tell(Event::AttachReceived { session: id(7) });
    run.nothing_until(290);
    run.tell(Event::Attached { known: attached_as(release(7, 1_000, 200), 2), stream: StreamId(2) });
    run.nothing_until(1_289).at(1_290);
    run.take_end(7, EndReason::Expired, 2);
}

#[test]
fn the_death_of_a_relay_gives_at_least_three_seconds_to_attach_again_and_takes_nothing_from_a_ttl() {
    let mut run = Run::with(release(7, 60_000, 0));
    run.tell(Event::Opened { known: release(8, 60_000, 5_000), stream: StreamId(1) });
    run.tell(Event::Opened { known: keep(9, 60_000), stream: StreamId(1) });
    run.tell(Event::Opened { known: release(10, 1_000, 0), stream: StreamId(1) });
    run.nothing_until(100).tell(Event::RelayLost { stream: StreamId(1) });
    run.nothing_until(999).at(1_000);
    run.take_end(10, EndReason::Expired, 1); // its TTL goes on
    run.nothing_until(3_099).at(3_100);
    run.take_end(7, EndReason::Disconnected, 1);
    run.nothing_until(5_099).at(5_100);
    run.take_end(8, EndReason::Disconnected, 1);
    run.nothing_until(59_999).at(60_000);
    run.take_end(9, EndReason::Expired, 1); // nothing but its TTL
}

#[test]
fn a_session_that_attaches_again_after_the_death_of_its_relay_lives_on() {
    let mut run = Run::with(release(7, 60_000, 0));
    run.nothing_until(100).tell(Event::RelayLost { stream: StreamId(1) });
    run.nothing_until(3_000).tell(Event::AttachReceived { session: id(7) });
    run.nothing_until(3_500);
    run.tell(Event::Attached { known: attached_as(release(7, 60_000, 0), 2), stream: StreamId(2) });
    run.nothing_until(30_000).tell(Event::StreamBroke { stream: StreamId(2) });
    run.take_end(7, EndReason::Disconnected, 2);
}

#[test]
fn a_session_attached_to_a_newer_stream_ignores_the_break_of_the_older() {
    let mut run = Run::with(release(7, 1_000, 0));
    run.tell(Event::AttachReceived { session: id(7) });
    run.tell(Event::Attached { known: attached_as(release(7, 1_000, 0), 2), stream: StreamId(2) });
    run.tell(Event::StreamBroke { stream: StreamId(1) });
    run.nothing_until(500);
    run.keep_alive(1, 1, &[7]);
    let why = NotRenewed::NotAttachedHere;
    let refused = Effect::RefuseKeepAlive { stream: StreamId(1), call: 1, session: id(7), why };
    assert_eq!(run.take(), [ack(1, 1, &[]), refused]);
    run.tell(Event::StreamBroke { stream: StreamId(2) });
    run.take_end(7, EndReason::Disconnected, 2);
}

#[test]
pub(crate) fn without_a_confirmation_for_the_election_timeout_the_streams_are_closed_which_releases_nobody() {
    let mut run = Run::with(release(7, 1_000, 0));
    run.tell(Event::Opened { known: keep(8, 500), stream: StreamId(1) });
    run.nothing_until(100);
    let confirmed = 0; // the last round was before the first tick
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7, 8]);
    run.nothing_until(confirmed + ELECTION_TIMEOUT_MS).at(confirmed + ELECTION_TIMEOUT_MS + 20);
    assert_eq!(run.take(), [Effect::CloseStreams { why: CloseReason::NoQuorum }]);
    run.nothing_until(20_000);

    // It led all the time, as it turns out: as under a new store leader.
    let round = run.round.expect("it goes on asking");
    run.tell(Event::QuorumConfirmed { round });
    assert_eq!(run.take(), [Effect::AcceptStreams], "and nobody is told of a keep-alive on a stream that is closed");
    run.quorum = Quorum::Confirms;
    run.nothing_until(20_499).at(20_500);
    run.take_end(8, EndReason::Expired, 1);
    run.nothing_until(22_999).at(23_000);
    run.take_end(7, EndReason::Disconnected, 1);
}

#[test]
fn a_lost_majority_is_noticed_while_nobody_sends_keep_alives() {
    let mut run = Run::with(keep(7, 60_000));
    run.nothing_until(10_000);
    run.quorum = Quorum::Silent;
    run.at(10_000 + 2 * ELECTION_TIMEOUT_MS);
    assert_eq!(run.take(), [Effect::CloseStreams { why: CloseReason::NoQuorum }]);
}

#[test]
fn a_session_that_no_event_told_of_has_a_deadline_too() {
    let mut run = Run::with(keep(7, 60_000));
    run.nothing_until(100).tell(Event::Found { sessions: vec![attached_as(keep(7, 1), 9), keep(8, 1_000)] });
    run.nothing_until(1_099).at(1_100);
    run.take_end(8, EndReason::Expired, 1);
    run.nothing_until(30_000);
}

#[test]
fn whoever_ended_by_another_hand_is_forgotten() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::SessionEnded { session: id(7) });
    assert_eq!(run.nothing_until(5_000).liveness.session_count(), 0);
    run.tell(Event::StreamBroke { stream: StreamId(1) });
    assert_eq!(run.take(), []);
}

#[test]
fn a_hundred_thousand_sessions_cost_a_look_only_when_their_time_may_have_come() {
    const SESSIONS: u64 = 100_000;
    let mut run = Run::leading(vec![]);
    for session in 1..=SESSIONS {
        let event = Event::Opened { known: keep(session, 10_000), stream: StreamId(session % 100) };
        assert_eq!(run.liveness.on(event, run.now), []);
    }
    let (mut renewed, mut ended) = (0, 0);
    for second in 1..=30 {
        // All but every tenth are renewed every three seconds.
        for stream in (0..100).filter(|_| second % 3 == 0) {
            let sessions = (1..=SESSIONS).filter(|id| id % 100 == stream && id % 10 != 0).map(id).collect();
            let event = Event::KeepAlive { stream: StreamId(stream), call: second, sessions };
            for effect in run.liveness.on(event, ms(second * 1_000)) {
                let Effect::StartConfirmRound { round } = effect else { continue };
                for effect in run.liveness.on(Event::QuorumConfirmed { round }, ms(second * 1_000)) {
                    let Effect::AckKeepAlive { sessions, .. } = effect else { continue };
                    renewed += sessions.len();
                }
            }
        }
        let mut now = ms(second * 1_000);
        while let Some(wake_at) = run.liveness.wake_at().filter(|at| *at < ms((second + 1) * 1_000)) {
            now = now.max(wake_at);
            for effect in run.liveness.on(Event::Tick, now) {
                match effect {
                    Effect::ProposeEnd { .. } => ended += 1,
                    Effect::StartConfirmRound { round } => {
                        assert_eq!(run.liveness.on(Event::QuorumConfirmed { round }, now), []);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    run.liveness.check_invariants();
    assert_eq!((renewed, ended), (10 * 90_000, 10_000));
}

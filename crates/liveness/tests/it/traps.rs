//! Traps that others fell into. Each test carries the trap's name.

use palisade_coord_core::{AttachGeneration, EndReason};
use palisade_liveness::{CloseReason, Effect, Event, Fate, StreamId};

use crate::run::{Quorum, Run, ack, keep, ms, release};

#[test]
fn a_deposed_or_paused_store_leader_renews_or_expires_live_sessions_deposed() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::Opened { known: release(8, 1_000, 0), stream: StreamId(1) });
    run.nothing_until(900);
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let round = run.round.expect("a keep-alive wants a round");
    run.tell(Event::LostStoreLeadership);
    assert_eq!(run.take(), [Effect::CloseStreams { why: CloseReason::LostStoreLeadership }]);

    // Whatever comes late finds nobody to renew or to end.
    run.tell(Event::QuorumConfirmed { round });
    run.keep_alive(1, 2, &[7]);
    run.tell(Event::StreamBroke { stream: StreamId(1) });
    run.now = ms(60_000);
    run.tell(Event::Tick);
    assert_eq!(run.take(), []);
    assert_eq!(run.liveness.wake_at(), None);
}

#[test]
fn a_deposed_or_paused_store_leader_renews_or_expires_live_sessions_answers_to_an_earlier_leadership() {
    let mut run = Run::with(keep(7, 1_000));
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let round = run.round.expect("a keep-alive wants a round");
    run.quorum = Quorum::Confirms;
    run.at(999);
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
    run.at(1_000);
    let ticket = run.take_end(7, EndReason::Expired, 1);

    run.tell(Event::LostStoreLeadership);
    run.tell(Event::BecameStoreLeader { sessions: vec![keep(7, 1_000)] });
    run.take();
    run.quorum = Quorum::Silent;
    run.tell(Event::Opened { known: keep(8, 1_000), stream: StreamId(2) });
    run.keep_alive(2, 1, &[8]);
    run.tell(Event::QuorumConfirmed { round });
    assert_eq!(run.take(), [], "that round confirmed another leadership");
    run.decide(7, ticket, Fate::Ended);
    assert_eq!(run.liveness.session_count(), 2, "that proposal was another leadership's");
}

#[test]
fn a_deposed_or_paused_store_leader_renews_or_expires_live_sessions_paused() {
    let mut run = Run::with(keep(7, 300));
    run.tell(Event::Opened { known: keep(8, 300), stream: StreamId(2) });
    run.nothing_until(200);
    // Stopped for a minute. Its clients sent keep-alives all the while; they lie in its sockets.
    run.stand_still_until(60_000).tell(Event::Tick);
    assert_eq!(run.take(), [], "nobody is expired, and no stream is closed, before the clients were heard");
    run.at(60_010).keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
    // The one that is really gone ends later by the pause and one keep-alive interval.
    run.nothing_until(300 + 59_780 + 99).at(300 + 59_780 + 100);
    run.take_end(8, EndReason::Expired, 1);
}

#[test]
fn a_deposed_or_paused_store_leader_renews_or_expires_live_sessions_cut_off() {
    // It reaches its clients but no majority: it can renew nobody, so it must expire nobody either.
    let mut run = Run::with(keep(7, 200));
    run.nothing_until(100);
    run.quorum = Quorum::Silent;
    for at in [110, 180, 250, 320] {
        run.at(at).keep_alive(1, at, &[7]);
    }
    run.at(60_000);
    assert_eq!(run.take(), [Effect::CloseStreams { why: CloseReason::NoQuorum }]);
}

#[test]
fn one_transient_renewal_error_drops_a_session_that_had_time_left() {
    let mut run = Run::with(keep(7, 1_000));
    run.at(300);
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let round = run.round.expect("a keep-alive wants a round");
    run.tell(Event::ConfirmFailed { round });
    run.quorum = Quorum::Confirms;
    run.at(340);
    assert_eq!(run.take(), [ack(1, 1, &[7])], "the next round serves it");
    run.nothing_until(1_299);
}

#[test]
fn a_restart_waits_a_full_lease_for_an_already_dead_holder() {
    // With a release delay there is no wait: the break of the stream is enough.
    let mut run = Run::with(release(7, 600_000, 0));
    run.at(50).tell(Event::StreamBroke { stream: StreamId(1) });
    let ticket = run.take_end(7, EndReason::Disconnected, 1);
    run.decide(7, ticket, Fate::Ended);
    assert_eq!(run.liveness.session_count(), 0);
}

#[test]
fn a_session_that_attached_just_before_its_expiry_was_applied_lives() {
    let mut run = Run::with(keep(7, 1_000));
    run.at(1_000);
    let ticket = run.take_end(7, EndReason::Expired, 1);
    run.tell(Event::AttachReceived { session: palisade_coord_core::SessionId(7) });
    run.tell(Event::Attached { known: crate::run::attached_as(keep(7, 1_000), 2), stream: StreamId(2) });
    run.keep_alive(2, 1, &[7]);
    assert_eq!(run.take(), [ack(2, 1, &[])], "held: the expiry may yet be applied");
    run.decide(7, ticket, Fate::AttachChanged { attach: AttachGeneration(2) });
    assert_eq!(run.take(), [ack(2, 1, &[7])]);
    run.nothing_until(1_999);
}

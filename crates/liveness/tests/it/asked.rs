//! A session that somebody asked to be renewed no more ends with its TTL at the latest, whatever its client does.

use palisade_coord_core::{EndReason, Wish};
use palisade_liveness::{Effect, Event, Fate, Known, NotRenewed, StreamId};

use crate::run::{Quorum, Run, ack, attached_as, id, keep};

fn asked(session: u64) -> Event {
    Event::SessionAsked { session: id(session), wish: Wish::StopRenewing }
}

fn not_renewed(stream: u64, call: u64, session: u64) -> Effect {
    Effect::RefuseKeepAlive { stream: StreamId(stream), call, session: id(session), why: NotRenewed::EndAsked }
}

#[test]
fn it_keeps_what_it_has_and_is_told_that_it_gets_no_more() {
    let mut run = Run::with(keep(7, 1_000));
    run.at(300).keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
    run.at(400).tell(asked(7));
    run.at(600).keep_alive(1, 2, &[7]);
    assert_eq!(run.take(), [ack(1, 2, &[]), not_renewed(1, 2, 7)]);
    run.nothing_until(1_299).at(1_300);
    run.take_end(7, EndReason::Expired, 1);
}

#[test]
fn the_others_of_its_stream_are_renewed() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::Opened { known: keep(8, 1_000), stream: StreamId(1) });
    run.tell(asked(7));
    run.at(500).keep_alive(1, 1, &[7, 8]);
    assert_eq!(run.take(), [ack(1, 1, &[8]), not_renewed(1, 1, 7)]);
}

#[test]
fn a_keep_alive_that_waits_for_its_round_saves_it_no_longer() {
    let mut run = Run::with(keep(7, 200));
    run.at(190);
    run.quorum = Quorum::Silent;
    run.keep_alive(1, 1, &[7]);
    let round = run.round.expect("a keep-alive wants a round");
    run.nothing_until(250);
    run.tell(asked(7));
    run.at(260);
    run.take_end(7, EndReason::Expired, 1);
    run.tell(Event::QuorumConfirmed { round });
    assert_eq!(run.take(), [ack(1, 1, &[]), not_renewed(1, 1, 7)]);
}

#[test]
fn a_renewal_that_was_held_for_its_end_is_not_made_up_for() {
    let mut run = Run::with(keep(7, 1_000));
    run.at(1_000);
    let ticket = run.take_end(7, EndReason::Expired, 1);
    run.keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[])], "held: the expiry may yet be applied");
    run.tell(asked(7));
    run.decide(7, ticket, Fate::NotApplied);
    assert_eq!(run.take(), [not_renewed(1, 1, 7)]);
    run.at(1_200);
    run.take_end(7, EndReason::Expired, 1);
}

#[test]
fn attaching_again_gains_it_nothing() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(asked(7));
    run.at(600).tell(Event::AttachReceived { session: id(7) });
    let wish = Some(Wish::StopRenewing);
    run.tell(Event::Attached { known: Known { wish, ..attached_as(keep(7, 1_000), 2) }, stream: StreamId(2) });
    run.nothing_until(999).at(1_000);
    run.take_end(7, EndReason::Expired, 2);
}

#[test]
fn a_new_store_leader_gives_it_its_ttl_once_and_renews_it_no_more() {
    let wish = Some(Wish::StopRenewing);
    let mut run = Run::leading(vec![Known { wish, ..keep(7, 1_000) }]);
    run.tell(Event::AttachReceived { session: id(7) });
    run.tell(Event::Attached { known: Known { wish, ..attached_as(keep(7, 1_000), 2) }, stream: StreamId(1) });
    run.at(500).keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[]), not_renewed(1, 1, 7)]);
    run.nothing_until(999).at(1_000);
    run.take_end(7, EndReason::Expired, 2);
}

#[test]
fn a_wish_that_its_client_closes_it_changes_no_deadline() {
    let mut run = Run::with(keep(7, 1_000));
    run.tell(Event::SessionAsked { session: id(7), wish: Wish::Close });
    run.at(500).keep_alive(1, 1, &[7]);
    assert_eq!(run.take(), [ack(1, 1, &[7])]);
    run.nothing_until(1_499).at(1_500);
    run.take_end(7, EndReason::Expired, 1);
}

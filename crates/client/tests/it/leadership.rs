//! Sessions, campaigns and leaderships through the driver.

use std::time::Duration;

use palisade_client::{
    ErrorKind, Leadership, LeadershipState, LostWhy, OnDisconnect, PutOptions, SessionEnd, SessionOptions, SessionWish,
    Value,
};
use palisade_fence::TokenSource;
use tokio::sync::watch;

use crate::fake_store::{FakeStore, NextPut, Told};
use crate::proxy::Proxy;
use crate::{candidate, client, client_with, session, within};

async fn until(
    state: &mut watch::Receiver<LeadershipState>,
    what: &str,
    is: impl Fn(&LeadershipState) -> bool,
) -> LeadershipState {
    within(what, state.wait_for(is)).await.unwrap().clone()
}

fn is_suspect(state: &LeadershipState) -> bool {
    matches!(state, LeadershipState::Suspect { .. })
}

fn is_held(state: &LeadershipState) -> bool {
    matches!(state, LeadershipState::Held { .. })
}

fn is_lost(state: &LeadershipState) -> bool {
    matches!(state, LeadershipState::Lost { .. })
}

async fn lead(session: &palisade_client::Session, id: &str) -> Leadership {
    within("leading", session.campaign(candidate(id))).await.unwrap()
}

#[tokio::test]
async fn a_broken_stream_is_suspect_and_then_confirmed_under_the_same_token() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let client = client(&[&proxy.address]);
    let session = session(&client, 5_000).await;
    let leadership = lead(&session, "a").await;
    let token = leadership.token();
    let mut state = leadership.state();
    assert!(is_held(&state.borrow_and_update()));
    // Every state in its order, so that the short "suspect" is not missed.
    let seen = client.world().spawn("watch", async move {
        let mut seen = Vec::new();
        while state.changed().await.is_ok() {
            let now = state.borrow_and_update().clone();
            let confirmed = is_held(&now) && !seen.is_empty();
            seen.push(now);
            if confirmed {
                break;
            }
        }
        seen
    });
    proxy.cut();
    let seen = within("suspect, then held", seen).await.unwrap();
    assert!(is_suspect(&seen[0]), "{seen:?}");
    assert_eq!(leadership.token_source().token(), Some(token));
    let attached = node.store.told().iter().filter(|it| matches!(it, Told::Attach { .. })).count();
    assert_eq!(attached, 1);
    within("resigning", leadership.resign()).await.unwrap();
}

#[tokio::test]
async fn silence_is_suspect_and_lost_at_the_limit_and_the_same_process_leads_again_under_a_new_token() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let client = client(&[&proxy.address]);
    let first = session(&client, 400).await;
    let leadership = lead(&first, "a").await;
    let (token, source) = (leadership.token(), leadership.token_source());
    let mut state = leadership.state();
    proxy.silence();
    let suspect = until(&mut state, "suspect", is_suspect).await;
    let LeadershipState::Suspect { deadline } = suspect else { unreachable!() };
    let now = until(&mut state, "lost", is_lost).await;
    assert_eq!(now, LeadershipState::Lost { why: LostWhy::Deadline });
    assert!(client.world().now() >= deadline);
    assert_eq!(source.token(), None);
    assert_eq!(within("over", first.ended()).await, SessionEnd::LeadershipLost);

    // The store has no TTLs: it still holds the election for the old session, which the client closes first.
    proxy.speak();
    proxy.cut();
    let second = session(&client, 400).await;
    let again = lead(&second, "a").await;
    assert!(again.token() > token);
    let told = node.store.told();
    let closed = told.iter().position(|it| *it == Told::Close { session: first.id() }).unwrap();
    let campaigned = told.iter().rposition(|it| matches!(it, Told::Campaign { .. })).unwrap();
    assert!(closed < campaigned, "{told:?}");
    assert_eq!(within("closing what is over", first.close()).await, Ok(()));
}

#[tokio::test]
async fn a_hand_over_reaches_the_next_in_line_and_the_old_holder_stops_believing_first() {
    let node = FakeStore::start().await;
    let (one, two) = (client(&[&node.address]), client(&[&node.address]));
    let (one, two) = (session(&one, 5_000).await, session(&two, 5_000).await);
    let leadership = lead(&one, "a").await;
    let source = leadership.token_source();
    let old = leadership.token();
    let mut waiting = Box::pin(two.campaign(candidate("b")));
    tokio::select! {
        _ = &mut waiting => panic!("two leaders"),
        _ = node.store.until(|it| matches!(it, Told::Campaign { candidate, .. } if candidate == "b")) => {}
    }
    assert_eq!(source.token(), Some(old));
    within("resigning", leadership.resign()).await.unwrap();
    assert_eq!(source.token(), None);
    let next = within("the next in line", waiting).await.unwrap();
    assert!(next.token() > old);
}

#[tokio::test]
async fn dropping_a_waiting_campaign_withdraws_it() {
    let node = FakeStore::start().await;
    let (one, two) = (client(&[&node.address]), client(&[&node.address]));
    let (one, two) = (session(&one, 5_000).await, session(&two, 5_000).await);
    let leadership = lead(&one, "a").await;
    let mut waiting = Box::pin(two.campaign(candidate("b")));
    tokio::select! {
        _ = &mut waiting => panic!("two leaders"),
        _ = node.store.until(|it| matches!(it, Told::Campaign { candidate, .. } if candidate == "b")) => {}
    }
    drop(waiting);
    let session = two.id();
    node.store.until(|it| matches!(it, Told::Withdraw { session: of, .. } if *of == session)).await;
    let token = leadership.token();
    within("resigning", leadership.resign()).await.unwrap();
    // Nobody was granted meanwhile. Its session goes on, and can lead.
    let again = lead(&two, "b").await;
    assert_eq!(again.token().get(), token.get() + 1);
}

#[tokio::test]
async fn a_holder_is_told_that_somebody_asks_for_its_end_and_goes_on_until_it_is_ready() {
    let node = FakeStore::start().await;
    let client = client(&[&node.address]);
    let session = session(&client, 5_000).await;
    let leadership = lead(&session, "a").await;
    assert_eq!((leadership.requested().borrow().clone(), *session.asked().borrow()), (None, None));
    node.store.ask_leader("b");
    let request = within("a request", leadership.end_requested()).await;
    assert_eq!(request.to.as_deref(), Some("b"));
    let mut asked = session.asked();
    within("a wish", asked.wait_for(|wish| *wish == Some(SessionWish::StopRenewing))).await.unwrap();
    assert!(is_held(&leadership.state().borrow()), "it leads until it is ready");
    within("resigning", leadership.resign()).await.unwrap();
}

#[tokio::test]
async fn dropping_the_handles_resigns_and_closes() {
    let node = FakeStore::start().await;
    let client = client(&[&node.address]);
    let session = session(&client, 5_000).await;
    let (id, leadership) = (session.id(), lead(&session, "a").await);
    let (token, source) = (leadership.token().get(), leadership.token_source());
    drop(leadership);
    node.store.until(|it| *it == Told::Resign { token }).await;
    assert_eq!(source.token(), None);
    drop(session);
    drop(client);
    node.store.until(|it| *it == Told::Close { session: id }).await;
}

#[tokio::test]
async fn a_leadership_keeps_its_session_open() {
    let node = FakeStore::start().await;
    let client = client(&[&node.address]);
    let session = session(&client, 5_000).await;
    let (id, leadership) = (session.id(), lead(&session, "a").await);
    drop(session);
    within("proclaiming", leadership.proclaim(Value::at("h:9"))).await.unwrap();
    assert!(is_held(&leadership.state().borrow()));
    within("closing", leadership.session().close()).await.unwrap();
    assert_eq!(within("lost", leadership.lost()).await, LostWhy::Closed);
    assert!(node.store.told().contains(&Told::Close { session: id }));
}

#[tokio::test]
async fn it_is_lost_when_the_store_says_so_and_campaigns_again_in_the_same_session() {
    let node = FakeStore::start().await;
    let client = client(&[&node.address]);
    let session = session(&client, 5_000).await;
    let leadership = lead(&session, "a").await;
    node.store.remove_leader();
    assert_eq!(within("lost", leadership.lost()).await, LostWhy::Store("removed".to_owned()));
    let again = lead(&session, "a").await;
    assert!(again.token() > leadership.token());
}

#[tokio::test]
async fn a_request_timeout_kills_a_blocking_campaign() {
    // It does not: the campaign waits for longer than the request timeout.
    let node = FakeStore::start().await;
    let (one, impatient) = (client(&[&node.address]), client_with(&[&node.address], Duration::from_millis(100)));
    let (one, two) = (session(&one, 5_000).await, session(&impatient, 5_000).await);
    let leadership = lead(&one, "a").await;
    let mut waiting = Box::pin(two.campaign(candidate("b")));
    tokio::select! {
        _ = &mut waiting => panic!("two leaders, or a timeout"),
        _ = node.store.until(|it| matches!(it, Told::Campaign { candidate, .. } if candidate == "b")) => {}
    }
    // A request that begins after the campaign runs into the timeout; the campaign waits on.
    node.store.next_put(NextPut::ApplyInSilence);
    let put = PutOptions::new("k", "");
    tokio::select! {
        _ = &mut waiting => panic!("two leaders, or a timeout"),
        timed_out = impatient.put(put) => assert_eq!(timed_out.unwrap_err().kind, ErrorKind::TimedOut),
    }
    within("resigning", leadership.resign()).await.unwrap();
    let next = within("leading", waiting).await.unwrap();
    assert_eq!(next.grant().candidate, "b");
}

#[tokio::test]
async fn a_follower_refuses_the_stream_and_its_hint_outside_the_list_is_followed() {
    let leader = FakeStore::start().await;
    let follower = FakeStore::follower(&leader.address).await;
    let client = client(&[&follower.address]);
    let session = session(&client, 5_000).await;
    assert_eq!(leader.store.told(), [Told::Open { ttl_ms: 5_000 }]);
    let leadership = lead(&session, "a").await;
    assert_eq!(leadership.grant().value, Value::at("a:1"));
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_says_so_in_time() {
    let client = client_with(&[&dead_address().await], Duration::from_millis(200));
    let options = SessionOptions {
        ttl: Duration::from_secs(1),
        on_disconnect: OnDisconnect::KeepUntilTtl,
        ..SessionOptions::default()
    };
    let error = within("an error", client.open_session(options.clone())).await.unwrap_err();
    assert_eq!((error.kind, error.outcome), (ErrorKind::NoStoreLeader, palisade_client::Outcome::NotApplied));
    let fraction = SessionOptions { ttl: Duration::from_micros(1_500), ..options };
    let error = client.open_session(fraction).await.unwrap_err();
    assert_eq!((error.kind, error.field.as_str()), (ErrorKind::InvalidArgument, "ttl"));
}

/// An address where nobody listens.
pub(crate) async fn dead_address() -> String {
    let listener = palisade_world::World::real().bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().to_string()
}

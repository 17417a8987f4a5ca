//! What somebody asks for who does not lead: sent again only by one who has a session that remembers the answer.

use palisade_client::{Demand, ErrorKind, Outcome, TransferOptions};
use palisade_wire::coord::v1::RequestId;
use palisade_world::World;

use crate::fake_store::{FakeStore, NextPut, Node, Told};
use crate::proxy::Proxy;
use crate::{candidate, client, session, within};

fn to(candidate: &str) -> TransferOptions {
    let (election, to) = ("e".to_owned(), candidate.to_owned());
    TransferOptions { election, token: None, to, demand: Demand::Request }
}

fn asked(node: &Node) -> Vec<Option<RequestId>> {
    let request_id = |told| match told {
        Told::Transfer { request_id, .. } => Some(request_id),
        _ => None,
    };
    node.store.told().into_iter().filter_map(request_id).collect()
}

fn is_transfer(told: &Told) -> bool {
    matches!(told, Told::Transfer { .. })
}

#[tokio::test]
async fn a_transfer_whose_answer_is_lost_takes_effect_once_if_a_session_asks() {
    let node = FakeStore::start().await;
    let proxy = Proxy::to(&node.address).await;
    let (holders, administrator) = (client(&[&node.address]), client(&[&proxy.address]));
    let holder = session(&holders, 60_000).await;
    let leadership = within("leading", holder.campaign(candidate("a"))).await.unwrap();
    let waiter = session(&holders, 60_000).await;
    let waits = World::real().spawn("b", async move { waiter.campaign(candidate("b")).await });
    node.store.until(|told| matches!(told, Told::Campaign { candidate, .. } if candidate == "b")).await;

    let asker = session(&administrator, 60_000).await;
    node.store.next_put(NextPut::ApplyInSilence);
    let (ended, _) = tokio::join!(within("an answer", asker.transfer(to("b"))), async {
        node.store.until(is_transfer).await;
        proxy.cut();
    });
    assert_eq!(ended.unwrap().requested, None);
    let next = within("a grant", waits).await.unwrap().unwrap();
    assert!(next.token() > leadership.token());
    let ids = asked(&node);
    assert_eq!((ids.len(), ids[0], ids[0].map(|id| id.session)), (2, ids[1], Some(asker.id())));
    let led = within("who leads", administrator.leader("e")).await.unwrap().unwrap();
    assert_eq!(led.token, next.token(), "it was done once");

    // Somebody without a session does not know what became of it.
    node.store.next_put(NextPut::ApplyInSilence);
    let third = session(&holders, 60_000).await;
    let waits = World::real().spawn("c", async move { third.campaign(candidate("c")).await });
    node.store.until(|told| matches!(told, Told::Campaign { candidate, .. } if candidate == "c")).await;
    let (ended, _) = tokio::join!(within("an error", administrator.transfer(to("c"))), async {
        node.store.until(|told| matches!(told, Told::Transfer { to, .. } if to == "c")).await;
        proxy.cut();
    });
    let error = ended.unwrap_err();
    assert_eq!((error.outcome, error.kind), (Outcome::Unknown, ErrorKind::ConnectionLost), "{error}");
    assert_eq!(asked(&node).len(), 3);
    drop(within("a grant", waits).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_session_does_not_ask_for_its_own_end() {
    let node = FakeStore::start().await;
    let asker = session(&client(&[&node.address]), 60_000).await;
    let error = within("an error", asker.close_another(asker.id(), Demand::Force)).await.unwrap_err();
    assert_eq!((error.kind, error.field.as_str()), (ErrorKind::InvalidArgument, "session"));
}

//! A check is worth only as much as the step behind it: handlers and streams that wait while a higher token is accepted.

use palisade_fence::Token;
use palisade_fence_tonic::{Election, FenceLayer, Refused, Why};
use tonic_health::pb::HealthCheckResponse;

use crate::service::*;
use crate::sources::Granted;

#[tokio::test]
async fn a_handler_under_a_lower_token_is_dropped_before_the_first_call_under_the_higher_one_runs() {
    let (probe, fence) = (Probe::new(), FenceLayer::worker([Election::named(ELECTION)]));
    let (mut old, mut new) = (client(&fence, &probe, 5), client(&fence, &probe, 6));
    let waits = tokio::task::LocalSet::new();
    let asked = waits.spawn_local(async move { old.check(later()).await });
    waits
        .run_until(async {
            probe.has_noted(1).await;
            new.check(now()).await.unwrap();
            let expected = [line(5, "begins"), line(5, "dropped"), line(6, "begins")];
            assert_eq!(probe.log(), expected);
            probe.gate.send_replace(true);
            let refused = Refused::of(&asked.await.unwrap().unwrap_err()).unwrap();
            assert_eq!((refused.why, refused.current), (Why::Stale, Some(Token::new(0, 6))));
            assert!(!refused.surely_not_handled, "it had begun");
            assert_eq!(probe.log(), expected, "it never went on");
        })
        .await;
}

#[tokio::test]
async fn handlers_under_the_same_token_run_on_beside_each_other() {
    let (probe, fence) = (Probe::new(), FenceLayer::worker([Election::named(ELECTION)]));
    let (mut one, mut two) = (client(&fence, &probe, 5), client(&fence, &probe, 5));
    let open = async {
        probe.has_noted(2).await;
        probe.gate.send_replace(true);
    };
    let (one, two, ()) = tokio::join!(one.check(later()), two.check(later()), open);
    one.unwrap();
    two.unwrap();
}

#[tokio::test]
async fn a_stream_under_a_lower_token_ends_and_says_why() {
    let (probe, fence) = (Probe::new(), FenceLayer::worker([Election::named(ELECTION)]));
    let mut stream = client(&fence, &probe, 5).watch(now()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap(), Some(HealthCheckResponse { status: 1 }));
    client(&fence, &probe, 6).check(now()).await.unwrap();
    probe.gate.send_replace(true);
    let refused = Refused::of(&stream.message().await.unwrap_err()).unwrap();
    assert_eq!((refused.why, refused.surely_not_handled), (Why::Stale, false));
    assert_eq!(probe.log(), [line(5, "begins"), line(5, "dropped"), line(6, "begins")]);
}

#[tokio::test]
async fn a_stream_under_the_present_token_is_whole() {
    let (probe, fence) = (Probe::new(), FenceLayer::worker([Election::named(ELECTION)]));
    let mut stream = client(&fence, &probe, 5).watch(now()).await.unwrap().into_inner();
    probe.gate.send_replace(true);
    let mut seen = Vec::new();
    while let Some(item) = stream.message().await.unwrap() {
        seen.push(item.status);
    }
    assert_eq!(seen, [1, 2]);
}

#[tokio::test]
async fn who_follows_the_election_drops_at_once_what_the_replaced_leader_began() {
    let (granted, probe) = (Granted::at(5), Probe::new());
    let fence = FenceLayer::worker([Election::named(ELECTION).confirmed_by(granted.clone())]);
    let mut old = client(&fence, &probe, 5);
    let announced = async {
        probe.has_noted(1).await;
        granted.grant(6);
        granted.announce();
        std::future::pending::<()>().await;
    };
    let status = tokio::select! {
        answer = old.check(later()) => answer.unwrap_err(),
        _ = fence.follow() => unreachable!(),
        () = announced => unreachable!(),
    };
    assert_eq!(Refused::of(&status).unwrap().current, Some(Token::new(0, 6)));
    assert_eq!(probe.log(), [line(5, "begins"), line(5, "dropped")]);
}

#[tokio::test]
async fn what_a_leader_began_takes_no_step_in_its_next_leadership() {
    let (probe, tokens) = (Probe::new(), Tokens::at(5));
    let fence = FenceLayer::leader(ELECTION, tokens.clone());
    let mut to_five = client(&fence, &probe, 5);
    let regained = async {
        probe.has_noted(1).await;
        // Lost, and granted again to the same process.
        tokens.set(Some(7));
        probe.gate.send_replace(true);
    };
    let (asked, ()) = tokio::join!(to_five.check(later()), regained);
    let refused = Refused::of(&asked.unwrap_err()).unwrap();
    assert_eq!((refused.why, refused.current), (Why::Stale, Some(Token::new(0, 7))));
    assert_eq!(probe.log(), [line(5, "begins"), line(5, "dropped")]);
}

/// Many callers under rising tokens on two threads: nothing under a token begins or goes on after a higher one has begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_storm_of_changes_the_tokens_of_steps_never_fall() {
    let (probe, fence) = (Probe::new(), FenceLayer::worker([Election::named(ELECTION)]));
    probe.gate.send_replace(true);
    let mut callers = tokio::task::JoinSet::new();
    for n in 1..=200 {
        let mut caller = client(&fence, &probe, n);
        callers.spawn(async move { caller.check(later()).await.is_ok() });
    }
    let answered = callers.join_all().await;
    assert!(answered.into_iter().any(|ok| ok), "somebody was answered");
    let steps: Vec<u64> = (probe.log().iter())
        .filter(|line| !line.ends_with("dropped"))
        .map(|line| line.split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(steps.is_sorted(), "{steps:?}");
}

//! Processes that end: by `kill -9`, or in order by SIGTERM; and those that take their places.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Fault, holder as present_holder, holder_above};
use crate::api::Outcome;
use crate::run::Run;
use crate::stage::{Hit, SERVES_WITHIN};

/// How often in a row a new holder is killed.
const IN_A_ROW: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Kill,
    Term,
}

impl How {
    fn f(self) -> &'static str {
        match self {
            How::Kill => "kill",
            How::Term => "term",
        }
    }

    fn hit(self) -> Hit {
        match self {
            How::Kill => Hit::Kill,
            How::Term => Hit::Terminate,
        }
    }
}

pub(super) async fn moment(rng: &mut SmallRng, least: u64, most: u64) {
    tokio::time::sleep(Duration::from_millis(rng.random_range(least..most))).await;
}

/// Whoever was ended comes again: a candidate as another one, anything else as itself.
pub(super) async fn replace(run: &Run, name: &str) -> anyhow::Result<()> {
    match name.contains('-') {
        true => run.stage.start(name).await,
        // The workload starts another one; one that ends at this moment takes none.
        false => {
            let _ = run.vacancies.send(()).await;
            Ok(())
        }
    }
}

pub(super) async fn holder(run: &Run, rng: &mut SmallRng, how: How) -> anyhow::Result<()> {
    moment(rng, 20, 400).await;
    let (name, token) = present_holder(run).await?;
    let fault = Fault::new(run, how.f(), std::slice::from_ref(&name), "holder");
    fault.start(run.stage.hit(&name, how.hit())).await?;
    holder_above(run, token).await?;
    replace(run, &name).await
}

/// The new holder as soon as it is elected, again and again.
pub(super) async fn new_holders(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let (mut name, mut token) = present_holder(run).await?;
    for _ in 0..IN_A_ROW {
        let fault = Fault::new(run, "kill", std::slice::from_ref(&name), "new-holder");
        fault.start(run.stage.hit(&name, Hit::Kill)).await?;
        replace(run, &name).await?;
        (name, token) = holder_above(run, token).await?;
    }
    moment(rng, 100, 300).await;
    Ok(())
}

pub(super) async fn store_leader(run: &Run, rng: &mut SmallRng, how: How) -> anyhow::Result<()> {
    let name = run.stage.store_leader().await?;
    let fault = Fault::new(run, how.f(), std::slice::from_ref(&name), "store-leader");
    fault.start(run.stage.hit(&name, how.hit())).await?;
    run.stage.serves().await?;
    moment(rng, 0, 500).await;
    run.stage.start(&name).await?;
    back(run, &name).await
}

/// The node that leads the store and whoever holds the election, at once.
pub(super) async fn both(run: &Run) -> anyhow::Result<()> {
    let node = run.stage.store_leader().await?;
    let (name, token) = present_holder(run).await?;
    let fault = Fault::new(run, "kill", &[node.clone(), name.clone()], "both");
    let kill = async {
        let (one, other) = tokio::join!(run.stage.hit(&node, Hit::Kill), run.stage.hit(&name, Hit::Kill));
        one.and(other)
    };
    fault.start(kill).await?;
    holder_above(run, token).await?;
    replace(run, &name).await?;
    run.stage.start(&node).await?;
    back(run, &node).await
}

pub(super) async fn taskexecutor(run: &Run, rng: &mut SmallRng, how: How) -> anyhow::Result<()> {
    let names = run.stage.taskexecutor_names();
    let name = &names[rng.random_range(0..names.len())];
    let fault = Fault::new(run, how.f(), std::slice::from_ref(name), "taskexecutor");
    fault.start(run.stage.hit(name, how.hit())).await?;
    moment(rng, 100, 1000).await;
    run.stage.start(name).await
}

/// So many nodes as may fail, drawn.
pub(super) fn minority_of(run: &Run, rng: &mut SmallRng) -> Vec<String> {
    let mut names = run.stage.node_names();
    let many = (names.len() - 1) / 2;
    (0..many).map(|_| names.swap_remove(rng.random_range(0..names.len()))).collect()
}

pub(super) async fn minority(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    let names = minority_of(run, rng);
    kill_and_start(run, rng, &names, "minority").await
}

pub(super) async fn all(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    kill_and_start(run, rng, &run.stage.node_names(), "all").await
}

async fn kill_and_start(run: &Run, rng: &mut SmallRng, names: &[String], role: &str) -> anyhow::Result<()> {
    let fault = Fault::new(run, "kill", names, role);
    let kill = async {
        let kills = names.iter().map(|name| run.stage.hit(name, Hit::Kill));
        futures_util::future::try_join_all(kills).await.map(|_| ())
    };
    fault.start(kill).await?;
    moment(rng, 200, 1000).await;
    for name in names {
        run.stage.start(name).await?;
    }
    run.stage.serves().await?;
    for name in names {
        back(run, name).await?;
    }
    Ok(())
}

pub(super) async fn rolling(run: &Run, rng: &mut SmallRng) -> anyhow::Result<()> {
    for name in run.stage.node_names() {
        let fault = Fault::new(run, "term", std::slice::from_ref(&name), "rolling");
        fault.start(run.stage.hit(&name, Hit::Terminate)).await?;
        moment(rng, 50, 300).await;
        run.stage.start(&name).await?;
        back(run, &name).await?;
        run.stage.serves().await?;
    }
    Ok(())
}

/// Waits until a node that was started answers again, and has caught up with what the others had committed by then.
pub(super) async fn back(run: &Run, name: &str) -> anyhow::Result<()> {
    let at = run.stage.node_names().iter().position(|node| node == name).unwrap_or(0);
    let until = tokio::time::Instant::now() + SERVES_WITHIN;
    let mut others = run.stage.api(at + 1)?;
    let goal = match others.status().await {
        Outcome::Ok(status) => status.last_applied,
        Outcome::Fail(_) | Outcome::Info(_) => 0,
    };
    while tokio::time::Instant::now() < until {
        let mut api = run.stage.api(at)?;
        if let Outcome::Ok(status) = api.status().await
            && status.last_applied >= goal
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    anyhow::bail!("{name} was not back within {SERVES_WITHIN:?}")
}

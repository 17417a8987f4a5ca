//! Transactions that append to lists and read several of them at once. A list is a key whose value is its elements; a transaction
//! takes effect only if none of its lists has changed since they were read.

use std::collections::BTreeMap;
use std::time::Duration;

use jepsen_lite::history::{Record, Type, f};
use rand::RngExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::cas::pace;
use crate::api::{Api, Op, Outcome, TxnOutcome};
use crate::run::{Actor, Run, stamp};

const CLIENTS: usize = 5;
/// Lists that are used at a time; after so many transactions of a client come the next ones.
const LISTS: usize = 3;
const TRANSACTIONS: usize = 60;

pub(crate) fn start(run: &Run, tasks: &mut JoinSet<anyhow::Result<()>>) {
    for client in 0..CLIENTS {
        tasks.spawn(work(run.clone(), client));
    }
}

/// One step of a transaction.
#[derive(Clone, Debug)]
enum Step {
    Append(String, u64),
    Read(String),
}

impl Step {
    fn list(&self) -> &str {
        match self {
            Step::Append(list, _) | Step::Read(list) => list,
        }
    }
}

async fn work(run: Run, client: usize) -> anyhow::Result<()> {
    let mut api = run.stage.api(client)?;
    let mut actor = Actor::new(&run);
    let mut rng = run.rng(&format!("append-{client}"));
    for number in 0.. {
        let mut steps: Vec<Step> = Vec::new();
        for _ in 0..rng.random_range(1..4) {
            let list = format!("list-{}", number / TRANSACTIONS * LISTS + rng.random_range(0..LISTS));
            // A transaction writes no key twice.
            let appended = steps.iter().any(|step| matches!(step, Step::Append(other, _) if *other == list));
            match rng.random_bool(0.5) && !appended {
                true => steps.push(Step::Append(list, run.value())),
                false => steps.push(Step::Read(list)),
            }
        }
        transact(&mut actor, &mut api, &steps).await;
        if !pace(&run, &mut rng, &mut api).await {
            break;
        }
    }
    Ok(())
}

/// Whether it took effect.
async fn transact(actor: &mut Actor, api: &mut Api, steps: &[Step]) -> bool {
    let described = steps.iter().map(|step| match step {
        Step::Append(list, element) => json!(["append", list, element]),
        Step::Read(list) => json!(["r", list, null]),
    });
    let invoke = Record { value: Value::Array(described.collect()), ..actor.record(f::TXN, api.node()) };
    let only_reads = steps.iter().all(|step| matches!(step, Step::Read(_)));
    let call = commit(api, steps);
    let fill = |txn: &TxnOutcome, end: &mut Record| {
        stamp(end, &txn.header);
        match txn.succeeded {
            true => fill_reads(&mut end.value, &txn.reads),
            false => (end.kind, end.error, end.revision) = (Type::Fail, Some("compare".to_owned()), None),
        }
    };
    match only_reads {
        true => actor.ask(invoke, call, fill).await.is_some_and(|txn| txn.succeeded),
        false => matches!(actor.act(invoke, call, fill).await, Outcome::Ok(txn) if txn.succeeded),
    }
}

/// Reads what is to change, then does all of it if that is still so.
async fn commit(api: &mut Api, steps: &[Step]) -> Outcome<TxnOutcome> {
    let appends: Vec<_> = steps.iter().filter(|step| matches!(step, Step::Append(..))).map(Step::list).collect();
    let mut when = Vec::new();
    let mut lists = BTreeMap::new();
    if !appends.is_empty() {
        let reads = appends.iter().map(|list| Op::Get((*list).to_owned())).collect();
        match api.txn_if_unchanged(&[], reads).await {
            Outcome::Ok(before) => {
                for (list, found) in appends.iter().zip(before.reads) {
                    let (elements, revision) = found.unwrap_or_default();
                    when.push(((*list).to_owned(), revision));
                    lists.insert((*list).to_owned(), elements);
                }
            }
            // Nothing was changed by reading.
            Outcome::Info(_) => return Outcome::Fail(Box::default()),
            Outcome::Fail(detail) => return Outcome::Fail(detail),
        }
    }
    let then = steps.iter().map(|step| match step {
        Step::Read(list) => Op::Get(list.clone()),
        Step::Append(list, element) => match lists.get(list).map(String::as_str) {
            None | Some("") => Op::Put(list.clone(), element.to_string()),
            Some(elements) => Op::Put(list.clone(), format!("{elements},{element}")),
        },
    });
    api.txn_if_unchanged(&when, then.collect()).await
}

/// Puts what was read into the steps that read.
fn fill_reads(steps: &mut Value, reads: &[Option<(String, u64)>]) {
    let mut reads = reads.iter();
    for step in steps.as_array_mut().into_iter().flatten().filter(|step| step[0] == "r") {
        let elements = reads.next().cloned().flatten().map(|(text, _)| text).unwrap_or_default();
        let elements = elements.split(',').filter_map(|element| element.parse::<u64>().ok());
        step[2] = elements.collect::<Vec<_>>().into();
    }
}

/// A good append, and a read of it.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    let mut actor = Actor::new(run);
    for _ in 0..200 {
        let list = "list-0".to_owned();
        let steps = [Step::Append(list.clone(), run.value()), Step::Read(list)];
        if transact(&mut actor, &mut api, &steps).await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no append went through although the faults had ended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_stands_where_it_was_asked_for() {
        let mut steps = json!([["append", "a", 3], ["r", "a", null], ["r", "b", null]]);
        fill_reads(&mut steps, &[Some(("1,2,3".to_owned(), 9)), None]);
        assert_eq!(steps, json!([["append", "a", 3], ["r", "a", [1, 2, 3]], ["r", "b", []]]));
    }
}

//! Exactly once: a job's counts are those that the harness counted by itself, word by word, and every answer to the same question is
//! the same. A job that was acknowledged is not forgotten.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::history::{History, Type, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "exactly-once";

/// Words that are shown in a counter-example at most.
const SHOWN: usize = 5;

pub(super) fn check(history: &History) -> Finding {
    let expected: BTreeMap<&str, (usize, &Value)> = history
        .seen(f::JOB_EXPECTED)
        .filter_map(|(line, record)| Some((record.key.as_deref()?, (line, &record.value))))
        .collect();
    let acknowledged: Vec<_> = history.ops_of(f::JOB_SUBMIT).filter(|op| op.outcome() == Type::Ok).collect();
    if expected.is_empty() && acknowledged.is_empty() {
        return Finding::nothing(NAME, "no job");
    }
    let mut results: BTreeMap<&str, (usize, &Value)> = BTreeMap::new();
    let mut compared = 0;
    for op in history.ops_of(f::JOB_RESULT) {
        let job = op.invoke.key.as_deref().unwrap_or_default();
        let Some(ok) = op.ok() else {
            let forgotten =
                op.end.is_some_and(|end| end.kind == Type::Fail && end.error.as_deref() == Some("not_found"));
            let submitted = acknowledged.iter().find(|submit| {
                submit.invoke.key == op.invoke.key && submit.ended_at.is_some_and(|end| end < op.invoked_at)
            });
            if let Some(submit) = submitted.filter(|_| forgotten) {
                return Finding::violation(
                    NAME,
                    format!("the job {job} was acknowledged, and is not known any more"),
                    submit.lines().chain(op.lines()),
                );
            }
            continue;
        };
        let line = op.ended_at.unwrap_or(op.invoked_at);
        if let Some((first, result)) = results.insert(job, (line, &ok.value))
            && *result != ok.value
        {
            let detail = format!("the job {job} has two results: {}", difference(result, &ok.value));
            return Finding::violation(NAME, detail, [first, line]);
        }
        if let Some((at, count)) = expected.get(job) {
            if **count != ok.value {
                let detail = format!("the job {job} did not count exactly once: {}", difference(count, &ok.value));
                return Finding::violation(NAME, detail, [*at, line]);
            }
            compared += 1;
        }
    }
    let waiting: Vec<&str> = expected.keys().filter(|job| !results.contains_key(*job)).copied().collect();
    if !waiting.is_empty() {
        return Finding::unknown(NAME, format!("no result of {} before the run ended", waiting.join(", ")));
    }
    let words: u64 = expected.values().map(|(_, count)| total(count)).sum();
    Finding::pass(
        NAME,
        format!("{compared} results of {} jobs, {words} words, each as the harness counted it", results.len()),
    )
}

fn total(count: &Value) -> u64 {
    count.as_object().map_or(0, |words| words.values().filter_map(Value::as_u64).sum())
}

fn difference(expected: &Value, counted: &Value) -> String {
    let none = Map::new();
    let (wanted, got) = (expected.as_object().unwrap_or(&none), counted.as_object().unwrap_or(&none));
    let mut words: Vec<&String> =
        wanted.keys().chain(got.keys()).filter(|word| wanted.get(*word) != got.get(*word)).collect();
    words.sort();
    words.dedup();
    let all = words.len();
    let show = |count: Option<&Value>| count.map_or("none".to_owned(), Value::to_string);
    let mut text: Vec<String> = words
        .iter()
        .take(SHOWN)
        .map(|word| format!("'{word}' {} instead of {}", show(got.get(*word)), show(wanted.get(*word))))
        .collect();
    if all > SHOWN {
        text.push(format!("and {} more words", all - SHOWN));
    }
    format!("{} (in all {} instead of {})", text.join(", "), total(counted), total(expected))
}

#[cfg(test)]
mod tests {
    use super::super::testing::verdicts;

    #[test]
    fn histories_by_hand() {
        verdicts(super::NAME, super::check);
    }
}

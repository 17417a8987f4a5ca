//! Safety: a job's result is the count of its input's words, whatever was killed while it ran: nothing is lost, nothing doubled.

use std::time::Duration;

use super::Invariant;
use crate::facts::Fact;

#[derive(Default)]
pub(super) struct JobResultsAreExact;

impl Invariant for JobResultsAreExact {
    fn name(&self) -> &'static str {
        "job-exact"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let Fact::JobEnded { job, counted, expected } = fact else { return Ok(()) };
        match counted {
            Err(why) => Err(format!("job-{job} has no result: {why}")),
            Ok(counted) => match counted.first_difference(expected) {
                None => Ok(()),
                Some((word, counted, expected)) => {
                    Err(format!("job-{job} counted '{word}' {counted} times; it occurs {expected} times"))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Counted;

    #[test]
    fn a_lost_a_doubled_and_an_invented_word_are_objected_to() {
        let count = |words: &[(&str, u64)]| Counted::new(words.iter().map(|(word, n)| ((*word).into(), *n)).collect());
        let expected = count(&[("a", 2), ("b", 1)]);
        let on = |counted| {
            let ended = Fact::JobEnded { job: 1, counted, expected: expected.clone() };
            JobResultsAreExact.on(&ended, Duration::ZERO)
        };
        assert_eq!(on(Ok(expected.clone())), Ok(()));
        assert_eq!(on(Ok(count(&[("a", 1), ("b", 1)]))).unwrap_err(), "job-1 counted 'a' 1 times; it occurs 2 times");
        assert_eq!(on(Ok(count(&[("a", 2), ("b", 2)]))).unwrap_err(), "job-1 counted 'b' 2 times; it occurs 1 times");
        assert_eq!(on(Ok(count(&[("a", 2)]))).unwrap_err(), "job-1 counted 'b' 0 times; it occurs 1 times");
        assert!(on(Ok(count(&[("a", 2), ("b", 1), ("c", 1)]))).unwrap_err().contains("'c' 1 times"));
        assert!(on(Err("it failed".into())).unwrap_err().contains("it failed"));
    }
}

//! Liveness: after healing, every TaskExecutor is registered at whoever leads the JobManagers, and a job ends.

use std::time::Duration;

use super::Invariant;
use crate::facts::Fact;
use crate::phase::Phase;
use crate::plan::{Plan, Role};

pub(super) struct WorkersAreRegistered {
    /// Somebody submits jobs, and somebody could run them.
    asked: bool,
    /// TaskExecutors that take part.
    executors: usize,
    healed: bool,
    /// The newest leadership.
    token: u64,
    /// How many TaskExecutors it knows.
    registered: usize,
    /// Jobs that have ended since healing.
    ended: usize,
}

impl WorkersAreRegistered {
    pub(super) fn new(plan: &Plan) -> WorkersAreRegistered {
        WorkersAreRegistered {
            asked: [Role::Submitter, Role::JobManager, Role::TaskExecutor].iter().all(|role| plan.count(*role) > 0),
            executors: plan.count(Role::TaskExecutor),
            healed: false,
            token: 0,
            registered: 0,
            ended: 0,
        }
    }
}

impl Invariant for WorkersAreRegistered {
    fn name(&self) -> &'static str {
        "workers-registered"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::LeadsJobs { token } if token.get() > self.token => {
                self.token = token.get();
                self.registered = 0;
            }
            Fact::JobSeen { token, executors, .. } if *token == self.token => {
                self.registered = usize::try_from(*executors).unwrap_or(usize::MAX);
            }
            Fact::JobEnded { .. } if self.healed => self.ended += 1,
            _ => {}
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        if phase == Phase::Healed && !self.healed {
            self.healed = true;
            // What was seen before may be true no longer.
            self.registered = 0;
        }
    }

    fn missing(&self) -> Option<String> {
        let (registered, executors, ended) = (self.registered, self.executors, self.ended);
        (self.asked && (registered != executors || ended == 0)).then(|| {
            format!(
                "{registered} of {executors} TaskExecutors are registered, and since healing {ended} jobs have ended"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use palisade_fence::Token;

    use super::*;
    use crate::facts::Counted;

    fn seen(token: Token, executors: u32) -> Fact {
        Fact::JobSeen { job: 1, token: token.get(), attempt: 1, restored: None, executors }
    }

    #[test]
    fn it_wants_all_of_them_at_the_newest_leader_and_a_job_that_ends() {
        let plan: Plan = "cast node 3 jobmanager 2 taskexecutor 2 submitter 1".parse().expect("a plan");
        let mut registered = WorkersAreRegistered::new(&plan);
        let mut on = |facts: &[Fact]| {
            facts.iter().for_each(|fact| registered.on(fact, Duration::ZERO).expect("it never objects"));
            registered.phase(Phase::Healed, Duration::ZERO);
            registered.missing().is_none()
        };
        let (old, new) = (Token::new(0, 1), Token::new(0, 2));
        let ended = || Fact::JobEnded { job: 1, counted: Ok(Counted::default()), expected: Counted::default() };
        assert!(!on(&[Fact::LeadsJobs { token: old }, seen(old, 2), ended()]), "the job ended before healing");
        assert!(!on(&[ended()]), "nobody has looked since");
        assert!(on(&[seen(old, 2)]));
        assert!(!on(&[Fact::LeadsJobs { token: new }, seen(old, 2)]), "they are at the old leader");
        assert!(!on(&[seen(new, 1)]), "one is missing");
        assert!(on(&[seen(new, 2)]));
    }
}

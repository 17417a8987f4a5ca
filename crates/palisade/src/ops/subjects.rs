//! What each kind of process says: a node by itself, JobManagers and TaskExecutors by their figures. Names and units of the
//! latter stand here.

use std::collections::BTreeMap;

use palisade_fence::Token;
use palisade_metrics::{Kind, Page};
use palisade_rpc::Counted;
use palisade_runtime::{JobManagerObserver, TaskExecutorObserver};

use super::Subject;
use crate::build_info::{COMMIT, VERSION};

impl Subject for palisade_server::Observer {
    fn write(&self, page: &mut Page) {
        palisade_server::Observer::write(self, page);
    }

    fn problems(&self) -> Vec<String> {
        palisade_server::Observer::problems(self)
    }
}

impl Subject for JobManagerObserver {
    fn write(&self, page: &mut Page) {
        let figures = self.figures();
        build(page);
        page.gauge("palisade_leads", "1 if this JobManager leads.", figures.leads.is_some());
        page.count("palisade_leaderships_total", "Leaderships that it was granted.", figures.leaderships);
        leader(page, figures.leader);
        let help = "TaskExecutors that are registered with this leader.";
        page.gauge("palisade_task_executors", help, figures.task_executors);
        page.gauge("palisade_slots", "Their slots.", figures.slots);
        page.gauge("palisade_free_slots", "Slots that run nothing.", figures.free_slots);
        let mut jobs = page.family("palisade_jobs", Kind::Gauge, "Jobs of this leader, by state.");
        for (state, count) in &figures.jobs {
            jobs.sample(&[("state", state)], *count);
        }
        answers(page, self.answers());
    }

    fn problems(&self) -> Vec<String> {
        JobManagerObserver::problems(self)
    }
}

impl Subject for TaskExecutorObserver {
    fn write(&self, page: &mut Page) {
        let figures = self.figures();
        build(page);
        page.gauge("palisade_registered", "1 if it is registered with a leader.", figures.registered.is_some());
        leader(page, figures.leader);
        page.gauge("palisade_slots", "Subtasks that it runs at once, at most.", figures.slots);
        let help = "What it did: tasks, records, checkpoints, repeated reports, refused data.";
        let mut counted = page.family("palisade_task_executor_events_total", Kind::Counter, help);
        for (name, count) in figures.counted {
            counted.sample(&[("event", name)], count);
        }
        answers(page, self.answers());
    }

    fn problems(&self) -> Vec<String> {
        TaskExecutorObserver::problems(self)
    }
}

fn build(page: &mut Page) {
    let mut build = page.family("palisade_build_info", Kind::Gauge, "1; what was built.");
    build.sample(&[("version", VERSION), ("commit", COMMIT)], 1_u64);
}

/// A token in its two parts, because a number of Prometheus cannot hold all of its bits.
fn leader(page: &mut Page, leader: Option<Token>) {
    let help = "Token of whoever leads, as far as it has heard: grants in the cluster so far; 0: nobody leads.";
    page.gauge("palisade_leader_token", help, leader.map_or(0, Token::counter));
    let help = "Generation of that token, which a restore raises.";
    page.gauge("palisade_leader_generation", help, leader.map_or(0, Token::generation));
}

/// Endpoints of jobs are counted together: their number grows with every job.
fn answers(page: &mut Page, answers: Vec<Counted>) {
    let mut counts: BTreeMap<(String, String, &'static str), u64> = BTreeMap::new();
    for Counted { endpoint, election, answer, count } in answers {
        let endpoint = if endpoint.starts_with("jobmaster-") { "jobmaster".to_owned() } else { endpoint };
        *counts.entry((endpoint, election, answer.name())).or_default() += count;
    }
    let help = "How its endpoints answered: admitted, or refused by the fence (stale, ahead, not_leader, no_token), and so on.";
    let mut family = page.family("palisade_rpc_answers_total", Kind::Counter, help);
    for ((endpoint, election, answer), count) in &counts {
        family.sample(&[("endpoint", endpoint), ("election", election), ("answer", answer)], *count);
    }
}

#[cfg(test)]
mod tests {
    use palisade_rpc::AnswerKind;

    use super::*;

    #[test]
    fn endpoints_of_jobs_are_one_however_many_jobs_there_were() {
        let counted = |endpoint: &str, count| Counted {
            endpoint: endpoint.to_owned(),
            election: "e".to_owned(),
            answer: AnswerKind::Stale,
            count,
        };
        let mut page = Page::new();
        answers(&mut page, vec![counted("jobmaster-1", 2), counted("jobmaster-2", 3), counted("dispatcher", 1)]);
        let text = page.into_text();
        assert!(text.contains("{endpoint=\"jobmaster\",election=\"e\",answer=\"stale\"} 5\n"), "{text}");
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2, "{text}");
    }
}

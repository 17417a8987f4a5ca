//! Who has which slot.
//!
//! Pure: it books, the ResourceManager's endpoint talks. It keeps true that a slot belongs to at most one job, that a job gets
//! all the slots it asked for or none, and that slots of a TaskExecutor that is gone belong to nobody.

use std::collections::{BTreeMap, VecDeque};

use crate::job::JobId;
use crate::jobmaster::task::{ExecutorId, Slot};

/// More slots than this on one TaskExecutor is a mistake in its configuration.
pub const SLOTS_MAX: u32 = 1024;

/// A TaskExecutor as it registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Which.
    pub executor: ExecutorId,
    /// Where its gateway is reached.
    pub address: String,
    /// Where its data exchange is reached.
    pub data_address: String,
    /// How many slots it has.
    pub slots: u32,
}

#[derive(Clone, Debug)]
struct Registered {
    registration: Registration,
    /// By slot; `None` is free.
    jobs: Vec<Option<JobId>>,
}

/// All slots for one job, booked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// For whom.
    pub job: JobId,
    /// As many as were asked for.
    pub slots: Vec<Slot>,
}

/// The books.
#[derive(Clone, Debug, Default)]
pub struct SlotManager {
    executors: BTreeMap<ExecutorId, Registered>,
    /// First come, first served, so that a large job is not starved by small ones.
    requests: VecDeque<(JobId, u32)>,
}

impl SlotManager {
    /// A TaskExecutor registers, all its slots free. Returns the incarnation of the same name that this one replaces.
    pub fn register(&mut self, registration: Registration) -> Option<ExecutorId> {
        let executor = registration.executor.clone();
        let jobs = vec![None; usize::try_from(registration.slots.min(SLOTS_MAX)).expect("bounded")];
        let replaced = self.executors.keys().find(|known| known.name == executor.name && **known != executor).cloned();
        if let Some(replaced) = &replaced {
            self.executors.remove(replaced);
        }
        match self.executors.get_mut(&executor) {
            // Registering again changes no booking.
            Some(known) => known.registration = registration,
            None => {
                self.executors.insert(executor, Registered { registration, jobs });
            }
        }
        replaced
    }

    /// A TaskExecutor is gone. Returns whether it was registered.
    pub fn remove(&mut self, executor: &ExecutorId) -> bool {
        self.executors.remove(executor).is_some()
    }

    /// Everyone who is registered.
    pub fn registrations(&self) -> impl Iterator<Item = &Registration> {
        self.executors.values().map(|known| &known.registration)
    }

    /// How many are registered.
    pub fn task_executors(&self) -> usize {
        self.executors.len()
    }

    /// All slots, and how many of them are free.
    pub fn slots(&self) -> (usize, usize) {
        let all = self.executors.values().flat_map(|known| &known.jobs);
        (all.clone().count(), all.filter(|job| job.is_none()).count())
    }

    /// A job needs slots; it replaces what the job asked for before.
    pub fn request(&mut self, job: JobId, count: u32) {
        self.requests.retain(|(waiting, _)| *waiting != job);
        self.requests.push_back((job, count));
    }

    /// A job needs no slots any more. Returns those it had.
    pub fn release(&mut self, job: &JobId) -> Vec<Slot> {
        self.requests.retain(|(waiting, _)| waiting != job);
        let mut released = Vec::new();
        for known in self.executors.values_mut() {
            for (index, holder) in known.jobs.iter_mut().enumerate() {
                if holder.as_ref() == Some(job) {
                    *holder = None;
                    released.push(slot(&known.registration, index));
                }
            }
        }
        released
    }

    /// Books slots for the requests in their order, as long as there are enough. Spreads a job over the TaskExecutors.
    pub fn grant(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        while let Some((job, count)) = self.requests.front().cloned() {
            let count = usize::try_from(count).expect("a u32 fits in a usize");
            if self.slots().1 < count {
                break;
            }
            self.requests.pop_front();
            let slots = (0..count).filter_map(|_| self.book(&job)).collect();
            grants.push(Grant { job, slots });
        }
        grants
    }

    /// Books one slot where the most are free.
    fn book(&mut self, job: &JobId) -> Option<Slot> {
        let free = |known: &Registered| known.jobs.iter().filter(|job| job.is_none()).count();
        // The first of equals, so that the choice is a function of the books.
        let known = self.executors.values_mut().rev().max_by_key(|known| free(known))?;
        let index = known.jobs.iter().position(Option::is_none)?;
        known.jobs[index] = Some(job.clone());
        Some(slot(&known.registration, index))
    }
}

fn slot(registration: &Registration, index: usize) -> Slot {
    Slot {
        executor: registration.executor.clone(),
        address: registration.address.clone(),
        data_address: registration.data_address.clone(),
        index: u32::try_from(index).expect("at most SLOTS_MAX"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registration(name: &str, incarnation: u64, slots: u32) -> Registration {
        let executor = ExecutorId { name: name.to_owned(), incarnation };
        Registration { executor, address: name.to_owned(), data_address: name.to_owned(), slots }
    }

    fn job(name: &str) -> JobId {
        name.parse().unwrap()
    }

    #[test]
    fn a_job_gets_all_its_slots_or_none_spread_over_the_task_executors() {
        let mut books = SlotManager::default();
        books.register(registration("a", 1, 2));
        books.request(job("large"), 4);
        books.request(job("small"), 1);
        assert_eq!(books.grant(), [], "nor is the small one served before the large one");
        books.register(registration("b", 1, 3));
        let grants = books.grant();
        let of = |grant: &Grant| grant.slots.iter().map(|slot| slot.executor.name.clone()).collect::<Vec<_>>();
        assert_eq!(grants.iter().map(of).collect::<Vec<_>>(), [vec!["b", "a", "b", "a"], vec!["b"]]);
        assert_eq!(books.slots(), (5, 0));
        assert_eq!(books.release(&job("large")).len(), 4);
        assert_eq!(books.slots(), (5, 4));
    }

    #[test]
    fn a_new_incarnation_replaces_the_old_one_and_its_bookings() {
        let mut books = SlotManager::default();
        books.register(registration("a", 1, 1));
        books.request(job("j"), 1);
        assert_eq!(books.grant().len(), 1);
        books.register(registration("a", 1, 1));
        assert_eq!(books.slots(), (1, 0), "registering again keeps the booking");
        let old = ExecutorId { name: "a".to_owned(), incarnation: 1 };
        assert_eq!(books.register(registration("a", 2, 1)), Some(old.clone()));
        assert_eq!(books.slots(), (1, 1));
        assert!(!books.remove(&old), "it is gone with its bookings");
    }
}

//! Which node to ask next, and whether that one may ask the store leader itself: decided from what the ones before have said.
//! It dials nothing.
//!
//! Keeps true: a node is asked to forward only where the one that it takes for the store leader has not answered this client;
//! whoever has answered since is asked itself again.

use std::collections::BTreeSet;
use std::time::Duration;

use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status;
use palisade_world::World;
use tonic::Status;

use crate::Error;
use crate::backoff::Backoff;
use crate::links::{Asking, Links};

/// Addresses that did not answer which are remembered: a cluster has at most some ten members, and names change rarely.
const SILENT: usize = 32;

/// The way of one request, or of one stream across its reconnects.
#[derive(Debug)]
pub(crate) struct Course {
    address: String,
    asking: Asking,
    /// Who did not answer when it was asked last. All of them, not only the last: where two of three are out of reach, one
    /// silence must not make the other forgotten.
    silent: BTreeSet<String>,
    /// Attempts since the last pause.
    in_a_row: usize,
    backoff: Backoff,
}

impl Course {
    /// Begins where the store leader is thought to be.
    pub(crate) fn new(links: &Links, backoff: Backoff) -> Course {
        let (address, silent) = (links.first_choice(), BTreeSet::new());
        Course { address, asking: Asking::Itself, silent, in_a_row: 0, backoff }
    }

    /// Whom to ask next.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Who may answer.
    pub(crate) fn asking(&self) -> Asking {
        self.asking
    }

    /// Counts an attempt. How long to wait before it: everybody is asked once, and two hints are followed, before there is a
    /// pause.
    pub(crate) fn attempt(&mut self, links: &Links, world: &World) -> Duration {
        let pause = match self.in_a_row < links.count() + 2 {
            true => Duration::ZERO,
            false => self.pause(world),
        };
        self.in_a_row += 1;
        pause
    }

    /// A pause, whoever was asked.
    pub(crate) fn pause(&mut self, world: &World) -> Duration {
        self.in_a_row = 0;
        self.backoff.pause(world)
    }

    /// It serves.
    pub(crate) fn served(&mut self) {
        self.in_a_row = 0;
        self.backoff.reset();
        self.silent.remove(&self.address);
    }

    /// It answered that it does not serve; `hint`: who does.
    pub(crate) fn turned_away(&mut self, links: &Links, hint: Option<String>) {
        self.silent.remove(&self.address);
        match hint {
            // Whoever leads cannot be reached from here; the node that says so may reach it.
            Some(hint) if self.asking == Asking::Itself && self.silent.contains(&hint) => {
                self.asking = Asking::OthersToo;
            }
            Some(hint) => self.go_to(links, hint),
            None => self.go_elsewhere(links),
        }
    }

    /// Nothing came back.
    pub(crate) fn unanswered(&mut self, links: &Links) {
        if self.silent.len() >= SILENT {
            self.silent.clear();
        }
        self.silent.insert(self.address.clone());
        self.go_elsewhere(links);
    }

    /// What it served broke off, or says nothing that counts. It may answer again.
    pub(crate) fn go_elsewhere(&mut self, links: &Links) {
        (self.asking, self.address) = (Asking::Itself, links.next_choice(&self.address));
    }

    /// This one leads, as somebody says.
    pub(crate) fn go_to(&mut self, links: &Links, address: String) {
        links.leads(&address);
        (self.asking, self.address) = (Asking::Itself, address);
    }

    /// A status instead of a stream, or at its end; an error if no node can help.
    pub(crate) fn refused(&mut self, links: &Links, refused: &Status) -> Result<(), Error> {
        tracing::debug!(address = self.address, %refused, "this node does not serve the stream");
        match status::detail(refused) {
            Some(detail) if matches!(detail.kind(), Kind::InvalidArgument | Kind::WrongCluster | Kind::Generation) => {
                return Err(Error::refused(&detail).of_a_read());
            }
            Some(detail) => {
                let hint = detail.store_leader.map(|leader| leader.address).filter(|hint| !hint.is_empty());
                self.turned_away(links, hint);
            }
            None => self.unanswered(links),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backoff::AT_MOST;

    fn links(endpoints: &[&str]) -> Links {
        Links::new(World::real(), endpoints.iter().map(|it| (*it).to_owned()).collect())
    }

    fn course(links: &Links, at: &str) -> Course {
        links.leads(at);
        Course::new(links, Backoff::up_to(AT_MOST))
    }

    fn said(hint: &str) -> Option<String> {
        Some(hint.to_owned())
    }

    #[test]
    fn a_hint_is_followed_and_whoever_cannot_be_reached_is_asked_through_the_one_who_names_it() {
        let links = links(&["a:1", "b:1"]);
        let mut course = course(&links, "b:1");
        course.turned_away(&links, said("a:1"));
        assert_eq!((course.address(), course.asking()), ("a:1", Asking::Itself));
        course.unanswered(&links);
        assert_eq!((course.address(), course.asking()), ("b:1", Asking::Itself));
        course.turned_away(&links, said("a:1"));
        assert_eq!((course.address(), course.asking()), ("b:1", Asking::OthersToo));
        // That did not help either: the store leader itself is tried again.
        course.turned_away(&links, said("a:1"));
        assert_eq!((course.address(), course.asking()), ("a:1", Asking::Itself));
        course.served();
        course.go_elsewhere(&links);
        course.turned_away(&links, said("a:1"));
        assert_eq!((course.address(), course.asking()), ("a:1", Asking::Itself), "it has answered since");
    }

    #[test]
    fn one_that_can_be_reached_among_many_that_cannot_is_asked_to_forward() {
        let links = links(&["a:1", "b:1", "c:1"]);
        let mut course = course(&links, "a:1");
        for _ in 0..links.count() * 2 {
            match course.address() {
                "c:1" => course.turned_away(&links, said("a:1")),
                _ => course.unanswered(&links),
            }
            if course.asking() == Asking::OthersToo {
                break;
            }
        }
        assert_eq!((course.address(), course.asking()), ("c:1", Asking::OthersToo));
    }

    #[test]
    fn a_stream_that_broke_is_no_silence() {
        let links = links(&["a:1", "b:1"]);
        let mut course = course(&links, "a:1");
        course.go_elsewhere(&links);
        course.turned_away(&links, said("a:1"));
        assert_eq!((course.address(), course.asking()), ("a:1", Asking::Itself));
    }

    #[test]
    fn everybody_is_asked_and_two_hints_are_followed_before_there_is_a_pause() {
        let (links, world) = (links(&["a:1", "b:1"]), World::real());
        let mut course = course(&links, "a:1");
        let pauses: Vec<bool> = (0..6).map(|_| !course.attempt(&links, &world).is_zero()).collect();
        assert_eq!(pauses, [false, false, false, false, true, false]);
    }

    #[test]
    fn a_refusal_that_no_other_node_would_mend_ends_it() {
        let links = links(&["a:1"]);
        let mut course = course(&links, "a:1");
        let refusal = |kind| status::refuse(status::not_applied(kind, ""));
        assert!(course.refused(&links, &refusal(Kind::InvalidArgument)).is_err());
        assert!(course.refused(&links, &refusal(Kind::NotStoreLeader)).is_ok());
        assert!(course.refused(&links, &Status::unavailable("gone")).is_ok());
    }
}

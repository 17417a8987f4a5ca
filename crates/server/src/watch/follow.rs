//! How far one watcher has got: what it has to read next, and whether there is anything to read at all. Pure.
//!
//! A watcher gets all it tells from one place, the past of the keys in the state; it is only woken by what is applied. So there
//! is nothing to hand over between the past and the present, and nothing is queued for a watcher that is slow: it reads on
//! from where it was.
//!
//! Keeps true: every change of its keys from `next` on that was applied before the watcher was registered is at or before
//! `until`, and so is every one that it was woken for. What comes later wakes it.

use palisade_coord_core::{Bookmark, ChangePage, Revision};
use palisade_planted::{self as planted, Bug};

use super::wakers::{Ticket, Wake};

/// What a watcher was woken for since it last looked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Due {
    /// The first revision that changed one of its keys.
    pub(super) first: Revision,
    /// The last. Those between may concern it or not.
    pub(super) last: Revision,
}

impl Due {
    pub(super) fn add(due: Option<Due>, revision: Revision) -> Due {
        let first = due.map_or(revision, |due| due.first);
        assert!(due.is_none_or(|due| due.last <= revision), "what is applied is told in its order");
        Due { first, last: revision }
    }
}

/// What there is for a watcher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// Something to read.
    Read,
    /// Nothing, until it is woken.
    Nothing,
    /// It cannot go on here.
    CutOff,
}

/// How far a watcher has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Follow {
    /// Everything of its keys before it has been told.
    next: Bookmark,
    /// There may be something to tell up to here, and there is nothing yet after it.
    until: Revision,
    /// Some of the revision of `next` has been told, and not all: its end must be told, too.
    is_within: bool,
}

impl Follow {
    /// From a revision on; `None`: from what comes after `now`, the last revision when the watcher was registered.
    pub(super) fn begin(from: Option<Revision>, now: Revision) -> Follow {
        Follow { next: from.map_or(Bookmark::after(now), Bookmark::before), until: now, is_within: false }
    }

    /// Everything before it has been told; of itself perhaps a part.
    pub(super) fn resume(&self) -> Revision {
        self.next.revision
    }

    /// What is to be read: from where, and up to which revision. `None`: nothing, until it is woken.
    pub(super) fn wants(&self) -> Option<(Bookmark, Revision)> {
        (self.next.revision <= self.until).then_some((self.next, self.until))
    }

    /// It was woken.
    fn woken(&mut self, due: Due) {
        // Whoever has told everything that there was has nothing to look for before the first change it is woken for. Whoever
        // still reads the past must not leave it out.
        if self.wants().is_none() || planted::is(Bug::WatchSkipsToLive) {
            self.next = self.next.max(Bookmark::before(due.first));
        }
        self.until = self.until.max(due.last);
    }

    /// It has read a page, of which all changes will be told. Whether there is anything to tell: also the end of a revision
    /// that was told in part, for whoever reads waits for it.
    pub(super) fn read(&mut self, page: &ChangePage<'_>) -> bool {
        assert!(page.next > self.next, "a page gets further");
        let was_within = self.is_within && page.next.revision == self.next.revision;
        let ends = self.is_within && !was_within;
        let last = page.changes.last().map(|change| change.revision);
        self.is_within = page.is_part && (was_within || last == Some(page.next.revision));
        self.next = page.next;
        !page.changes.is_empty() || ends
    }

    /// Leaves out what is not kept.
    pub(super) fn skip(&mut self, to: Bookmark) {
        self.next = to;
    }

    /// What there is for this watcher now.
    pub(super) fn look(&mut self, ticket: &Ticket) -> Look {
        match ticket.take() {
            Wake::CutOff => return Look::CutOff,
            Wake::Due(due) => self.woken(due),
            Wake::Nothing(published) if self.wants().is_none() => self.idle_at(published),
            Wake::Nothing(_) => {}
        }
        if self.wants().is_some() { Look::Read } else { Look::Nothing }
    }

    /// Everything up to a revision has woken whom it concerns, and this watcher has nothing to read.
    fn idle_at(&mut self, revision: Revision) {
        assert!(self.wants().is_none(), "it has something to read");
        self.next = self.next.max(Bookmark::after(revision));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn due(first: u64, last: u64) -> Due {
        Due { first: Revision(first), last: Revision(last) }
    }

    #[test]
    fn from_now_on_there_is_nothing_to_read_until_it_is_woken() {
        let mut follow = Follow::begin(None, Revision(7));
        assert_eq!((follow.wants(), follow.resume()), (None, Revision(8)));
        follow.woken(due(7, 7));
        assert_eq!(follow.wants(), None, "that was applied before and told late");
        follow.woken(due(9, 12));
        assert_eq!(follow.wants(), Some((Bookmark::before(Revision(9)), Revision(12))));
        let page = ChangePage { changes: vec![], next: Bookmark::after(Revision(12)), is_part: false };
        assert!(!follow.read(&page), "nothing was found");
        assert_eq!(follow.wants(), None);
        follow.idle_at(Revision(20));
        assert_eq!(follow.resume(), Revision(21));
    }

    #[test]
    fn what_is_still_to_be_read_of_the_past_is_not_left_out() {
        let mut follow = Follow::begin(Some(Revision(3)), Revision(7));
        follow.woken(due(9, 9));
        assert_eq!(follow.wants(), Some((Bookmark::before(Revision(3)), Revision(9))));
    }

    #[test]
    fn a_revision_that_is_still_to_come_is_waited_for() {
        let mut follow = Follow::begin(Some(Revision(30)), Revision(7));
        follow.woken(due(9, 9));
        assert_eq!((follow.wants(), follow.resume()), (None, Revision(30)));
        follow.woken(due(29, 31));
        assert_eq!(follow.wants(), Some((Bookmark::before(Revision(30)), Revision(31))));
    }
}

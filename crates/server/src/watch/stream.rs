//! The stream of one watcher: says from where it tells everything, then every change, then why it ends.
//!
//! Keeps true: what a reply says was told is told; a gap is said and ends the stream; the stream also ends, saying why, when
//! this node no longer surely leads the store: a watcher must not sit on a node that hears nothing.

use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use palisade_coord_core::{Bookmark, PageSize, Refusal, Revision, State};
use palisade_planted::{self as planted, Bug};
use palisade_replica::Leadership;
use palisade_wire::convert::{self, Watch};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, WatchReply, watch_reply};
use palisade_wire::status;
use tokio::sync::watch;
use tonic::Status;

use super::follow::{Follow, Look};
use super::room::{Full, Room, Share};
use super::wakers::{MAX_WATCHERS, Ticket};
use crate::api::Api;
use crate::confirmation::Touch;
use crate::metrics::{CutOff, GapKind};
use crate::refusals;

/// A page of changes. Looking at so many takes a fraction of a millisecond, for which applying waits; with the largest
/// change on top (a value, the one before it, the key twice) a page stays below what gRPC takes in one message.
pub(super) const PAGE: PageSize = PageSize { changes: 4_096, bytes: 1 << 20 };

/// What reading on came to.
#[derive(Debug)]
pub(super) enum Read {
    /// Changes to tell, and about how many bytes they take.
    Reply(WatchReply, u64),
    /// Nothing of what was looked at concerns the watcher.
    Nothing,
    /// The changes from where it was are no longer kept: it cannot go on.
    Gap(WatchReply),
}

/// Reads a page. `follow` has got further if something was read.
pub(super) fn read(state: &State, watch: &Watch, follow: &mut Follow, size: PageSize) -> Read {
    let Some((from, until)) = follow.wants() else { return Read::Nothing };
    let page = match state.change_page(&watch.keys, from, until, size, |change| watch.weigh(change)) {
        Ok(page) => page,
        Err(Refusal::Compacted { compacted, .. }) if planted::is(Bug::CompactionUntold) => {
            follow.skip(Bookmark::before(compacted));
            return Read::Nothing;
        }
        Err(Refusal::Compacted { compacted, .. }) => return Read::Gap(gap(state, follow, compacted)),
        Err(other) => unreachable!("a page is refused for compaction only: {other:?}"),
    };
    if !follow.read(&page) {
        return Read::Nothing;
    }
    let bytes = page.changes.iter().filter_map(|change| watch.weigh(change)).sum();
    let events = page.changes.iter().map(|change| watch.event(change)).collect();
    Read::Reply(WatchReply { events, fragment: page.is_part, ..so_far(state, follow) }, bytes)
}

fn gap(state: &State, follow: &Follow, first: Revision) -> WatchReply {
    WatchReply { gap: Some(watch_reply::Gap { first_revision: first.get() }), ..so_far(state, follow) }
}

/// A reply without events: how far a watcher has got.
fn so_far(state: &State, follow: &Follow) -> WatchReply {
    let (header, resume_revision) = (Some(convert::header(state)), follow.resume().get());
    WatchReply { header, resume_revision, ..WatchReply::default() }
}

/// Begins to watch, with a state that has everything acknowledged before this call.
pub(super) async fn watch(
    api: &Api,
    room: &Room,
    watch: Watch,
) -> Result<impl Stream<Item = Result<WatchReply, Status>> + Send + use<>, Status> {
    api.barrier().await?;
    let mut touch = api.touch.clone();
    let Some(leadership) = touch.borrow_and_update().leadership() else {
        return Err(status::refuse(refusals::no_store_leader()));
    };
    // One look at the state: what is applied after it wakes the watcher.
    let registered = api.machine.read(|state| {
        let ticket = api.machine.hub().wakers().register(&watch.keys)?;
        let follow = Follow::begin(watch.from, state.revision());
        Some((ticket, follow, so_far(state, &follow)))
    });
    let Some((ticket, follow, created)) = registered else {
        let detail = status::not_applied(Kind::Overloaded, "watch again a little later");
        return Err(status::refuse(ErrorDetail { limit: format!("{MAX_WATCHERS} watchers of a node"), ..detail }));
    };
    let watching = Watching {
        api: api.clone(),
        room: room.clone(),
        progress: Duration::from_millis(watch.progress_ms),
        watch,
        follow,
        ticket,
        created: Some(created),
        share: Share::default(),
        touch,
        leadership,
        is_over: false,
    };
    Ok(unfold(watching, |mut watching| async move { watching.next().await.map(|item| (item, watching)) }))
}

struct Watching {
    api: Api,
    room: Room,
    watch: Watch,
    follow: Follow,
    ticket: Ticket,
    /// The first reply, until it is sent.
    created: Option<WatchReply>,
    /// Of the reply before, which its connection may still hold.
    share: Share,
    progress: Duration,
    touch: watch::Receiver<Touch>,
    leadership: Leadership,
    /// The reason for the end has been sent.
    is_over: bool,
}

/// What a watcher that has nothing to read has waited for.
enum Waited {
    Woken,
    Long,
    NoLongerLeads,
}

type Item = Option<Result<WatchReply, Status>>;

impl Watching {
    async fn next(&mut self) -> Item {
        if self.is_over {
            return None;
        }
        if let Some(created) = self.created.take() {
            return Some(Ok(created));
        }
        // Whoever asks for the next reply has taken the one before.
        self.share = Share::default();
        loop {
            if self.touch.borrow().leadership() != Some(self.leadership) {
                return self.no_longer_leads();
            }
            match self.follow.look(&self.ticket) {
                Look::CutOff => return self.end("the state of this node has jumped, or it stops; watch on elsewhere"),
                Look::Read => match self.read_on().await {
                    Some(item) => return item,
                    None => continue,
                },
                Look::Nothing => {}
            }
            match self.wait().await {
                Waited::Woken => {}
                // If there is something to read after all, it comes first.
                Waited::Long if self.follow.look(&self.ticket) == Look::Nothing => return Some(Ok(self.progress())),
                Waited::Long => {}
                Waited::NoLongerLeads => return self.no_longer_leads(),
            }
        }
    }

    /// Reads a page. `None`: nothing to tell yet.
    async fn read_on(&mut self) -> Option<Item> {
        let mut follow = self.follow;
        match self.api.machine.read(|state| read(state, &self.watch, &mut follow, PAGE)) {
            Read::Gap(gap) => {
                self.is_over = true;
                self.api.machine.metrics().gaps.inc(GapKind::Watch);
                Some(Some(Ok(gap)))
            }
            Read::Nothing => {
                self.follow = follow;
                // A long past of other keys is no reason to keep a thread from the others.
                tokio::task::yield_now().await;
                None
            }
            Read::Reply(reply, bytes) => {
                if self.share.covers(bytes) || self.room.try_take(bytes).map(|share| self.share = share).is_ok() {
                    self.follow = follow;
                    return Some(Some(Ok(reply)));
                }
                // It is read again when there is room for it: whoever waits holds nothing.
                drop(reply);
                self.share = Share::default();
                match self.room.take(bytes, &self.api.world).await {
                    Ok(share) => {
                        self.share = share;
                        None
                    }
                    Err(Full) => Some(self.overloaded()),
                }
            }
        }
    }

    async fn wait(&mut self) -> Waited {
        let leadership = self.leadership;
        tokio::select! {
            biased;
            _ = self.touch.wait_for(|now| now.leadership() != Some(leadership)) => Waited::NoLongerLeads,
            () = self.ticket.woken() => Waited::Woken,
            () = self.api.world.sleep(self.progress) => Waited::Long,
        }
    }

    fn progress(&self) -> WatchReply {
        self.api.machine.read(|state| so_far(state, &self.follow))
    }

    fn no_longer_leads(&mut self) -> Item {
        self.end("this node no longer surely leads the store; watch on elsewhere")
    }

    fn end(&mut self, hint: &str) -> Item {
        self.is_over = true;
        Some(Err(status::refuse(status::not_applied(Kind::NoStoreLeader, hint))))
    }

    fn overloaded(&mut self) -> Item {
        self.is_over = true;
        self.api.machine.metrics().cut_off.inc(CutOff::Watcher);
        let detail = status::not_applied(Kind::Overloaded, "watch on a little later");
        Some(Err(status::refuse(ErrorDetail { limit: "bytes on their way to watchers".to_owned(), ..detail })))
    }
}

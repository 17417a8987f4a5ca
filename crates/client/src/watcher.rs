//! Keys as a watcher sees them: every change from a revision on, in order, across reconnects and the death of the store leader,
//! or an explicit gap.
//!
//! Keeps true: a revision is told whole or not at all; revisions only rise; what lies between two that were told did not
//! change the keys, or was told as a gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use palisade_wire::coord::v1;
use palisade_wire::coord::v1::watch_service_client::WatchServiceClient;
use palisade_wire::limits::MESSAGE_BYTES;

use crate::listening::Listening;
use crate::session::whole_ms;
use crate::{Client, Error, ErrorKind, Header, KeyValue, Keys};

/// What to watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchOptions {
    /// Which keys.
    pub keys: Keys,
    /// The first revision whose changes are told, itself included; it may be still to come. `None`: what comes from now on.
    ///
    /// To go on from a read: the revision of its header, and one.
    pub from: Option<u64>,
    /// Tell what the keys had before, as far as the store keeps it.
    pub show_previous: bool,
    /// Which changes to tell.
    pub tell: Tell,
    /// How long nothing is told before [`WatchedKind::Progress`] says how far it has got: whole milliseconds, 100 ms to
    /// 10 min. `None`: one minute.
    pub progress: Option<Duration>,
}

impl WatchOptions {
    /// All changes from now on.
    pub fn new(keys: impl Into<Keys>) -> WatchOptions {
        WatchOptions { keys: keys.into(), from: None, show_previous: false, tell: Tell::All, progress: None }
    }
}

/// Which changes are told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Tell {
    /// All.
    #[default]
    All,
    /// Writes only.
    Puts,
    /// Removals only.
    Deletes,
}

/// Something that a watcher hears.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    /// Of the state that the store looked at: at or after what is told.
    pub header: Header,
    /// What it is.
    pub kind: WatchedKind,
}

/// What a watcher hears.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WatchedKind {
    /// Always first: from this revision on everything is told.
    Started {
        /// The first that is told.
        from: u64,
    },
    /// All that one revision changed of the keys: a transaction is told whole.
    Changed {
        /// Above every one that was told before.
        revision: u64,
        /// In the order in which the command made them. Never empty.
        changes: Vec<KeyChange>,
    },
    /// Another node, or the same one again, goes on where the last one stopped: nothing is missing.
    Resumed {
        /// The first that is still to be told.
        from: u64,
    },
    /// Nothing has changed for a while: everything before this revision has been told.
    Progress {
        /// The first that is still to be told.
        from: u64,
    },
    /// Changes are missing: the store no longer keeps them, or the cluster was restored from a backup. Read the keys as they are; what is told from now on up to the
    /// revision of that read is in it already. The watcher goes on by itself.
    Gap {
        /// The first revision of which something is missing.
        from: u64,
        /// The first that is told again.
        to: u64,
    },
}

/// A change of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyChange {
    /// The key.
    pub key: Vec<u8>,
    /// What it has; `None`: it was removed.
    pub kv: Option<KeyValue>,
    /// What it had before; `None`: it was not there, it was not asked for, or it is no longer kept.
    pub previous: Option<KeyValue>,
}

/// Watches keys. Never goes back within a cluster, unless that was restored from a backup: then it tells of a gap and goes on with
/// what the restored one has.
///
/// ```no_run
/// # async fn example(client: palisade_client::Client) -> Result<(), palisade_client::Error> {
/// use palisade_client::{Keys, RangeOptions, WatchOptions, WatchedKind};
///
/// // What there is, and then every change of it.
/// let read = client.range(RangeOptions::new(Keys::prefix("config/"))).await?;
/// let from = Some(read.header.revision + 1);
/// let mut watcher = client.watch(WatchOptions { from, ..WatchOptions::new(Keys::prefix("config/")) });
/// loop {
///     match watcher.next().await?.kind {
///         WatchedKind::Changed { revision, changes } => println!("{revision}: {changes:?}"),
///         WatchedKind::Gap { .. } => println!("read everything again"),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Watcher {
    options: WatchOptions,
    stream: Listening<v1::WatchReply>,
    told: Told,
}

/// What has been told, and what of it was not taken yet.
#[derive(Debug, Default)]
struct Told {
    /// Everything before it has been told; `None`: nothing has been heard.
    resume: Option<u64>,
    /// Of the cluster that told it. In another, `resume` means nothing: two restores of one backup count the same revisions again.
    generation: Option<u32>,
    /// Whether the stream has said from where it tells everything.
    is_open: bool,
    /// Of a revision that came in part.
    part: Vec<(u64, KeyChange)>,
    pending: VecDeque<Watched>,
}

/// Whether a stream goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    GoesOn,
    Ends,
}

impl Client {
    /// Watches keys. Reconnects by itself, and goes on where it was.
    pub fn watch(&self, options: WatchOptions) -> Watcher {
        Watcher { options, stream: Listening::new(Arc::clone(&self.shared)), told: Told::default() }
    }
}

impl Watcher {
    /// The next thing that is told. Waits as long as it takes, across reconnects; an error means that it cannot go on (a field
    /// that is not allowed, another cluster). Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<Watched, Error> {
        loop {
            if let Some(watched) = self.told.pending.pop_front() {
                return Ok(watched);
            }
            if !self.stream.is_open() {
                self.told.broken();
                let request = self.request()?;
                let ask = |channel| async {
                    WatchServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES).watch(request).await
                };
                self.stream.open(ask).await?;
            }
            let Some(reply) = self.stream.next().await? else { continue };
            let header = Header::of(reply.header.as_ref());
            if let Err(error) = self.stream.shared.seen.admit(&header) {
                self.stream.close();
                return Err(error.of_a_read());
            }
            if self.told.take(header, reply)? == Stream::Ends {
                self.stream.close();
            }
        }
    }

    /// Everything before this revision has been told, what was not taken yet included: another watcher would go on from here.
    /// `None`: nothing has been heard yet.
    pub fn resume_revision(&self) -> Option<u64> {
        self.told.resume
    }

    fn request(&self) -> Result<v1::WatchRequest, Error> {
        let options = &self.options;
        let progress = options.progress.unwrap_or_default();
        whole_ms("progress", progress)?;
        Ok(v1::WatchRequest {
            keys: Some(options.keys.to_wire()),
            from_revision: self.told.resume.or(options.from).unwrap_or(0),
            show_previous: options.show_previous,
            no_puts: options.tell == Tell::Deletes,
            no_deletes: options.tell == Tell::Puts,
            progress_interval_ms: u64::try_from(progress.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

impl Told {
    /// The stream is gone: what it told in part will be told again, whole.
    fn broken(&mut self) {
        self.part.clear();
        self.is_open = false;
    }

    /// Keeps what a reply tells.
    fn take(&mut self, header: Header, reply: v1::WatchReply) -> Result<Stream, Error> {
        let from = reply.resume_revision;
        let of_before = self.generation.replace(header.generation).is_some_and(|told| told < header.generation);
        if of_before && reply.gap.is_none() {
            // It must not go on from there. Of the past before the restore nothing is kept, so whoever asks for all is told of a gap.
            self.part.clear();
            self.resume = Some(1);
            return Ok(Stream::Ends);
        }
        if let Some(before) = self.resume
            && from < before
        {
            let message = format!("the store went back from revision {before} to {from}");
            return Err(Error::not_applied(ErrorKind::BadAnswer, message));
        }
        if let Some(gap) = reply.gap {
            self.part.clear();
            self.resume = Some(gap.first_revision);
            self.pending.push_back(Watched { header, kind: WatchedKind::Gap { from, to: gap.first_revision } });
            return Ok(Stream::Ends);
        }
        if !self.is_open {
            self.is_open = true;
            let kind =
                if self.resume.is_none() { WatchedKind::Started { from } } else { WatchedKind::Resumed { from } };
            self.pending.push_back(Watched { header, kind });
        } else if reply.events.is_empty() && self.part.is_empty() {
            self.pending.push_back(Watched { header, kind: WatchedKind::Progress { from } });
        }
        self.resume = Some(from);
        for event in reply.events {
            self.part.push(read(event)?);
        }
        // What is whole: all, or all but the revision that is told in part.
        let whole = self.part.partition_point(|(revision, _)| !reply.fragment || *revision < from);
        let mut whole: VecDeque<_> = self.part.drain(..whole).collect();
        while let Some((revision, change)) = whole.pop_front() {
            let mut changes = vec![change];
            while let Some((_, change)) = whole.pop_front_if(|next| next.0 == revision) {
                changes.push(change);
            }
            self.pending.push_back(Watched { header, kind: WatchedKind::Changed { revision, changes } });
        }
        Ok(Stream::GoesOn)
    }
}

fn read(event: v1::KeyEvent) -> Result<(u64, KeyChange), Error> {
    let kind = event.kind();
    let Some(kv) = event.kv else {
        return Err(Error::not_applied(ErrorKind::BadAnswer, "the store sent a change without its key"));
    };
    let (revision, key, previous) = (kv.mod_revision, kv.key.clone(), event.previous.map(KeyValue::of));
    let kv = match kind {
        v1::key_event::Kind::Put => Some(KeyValue::of(kv)),
        v1::key_event::Kind::Delete => None,
    };
    Ok((revision, KeyChange { key, kv, previous }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(resume_revision: u64, revisions: &[u64]) -> v1::WatchReply {
        let event = |&mod_revision: &u64| v1::KeyEvent {
            kv: Some(v1::KeyValue { key: b"k".to_vec(), mod_revision, ..v1::KeyValue::default() }),
            ..v1::KeyEvent::default()
        };
        v1::WatchReply { resume_revision, events: revisions.iter().map(event).collect(), ..v1::WatchReply::default() }
    }

    fn part(resume_revision: u64, revisions: &[u64]) -> v1::WatchReply {
        v1::WatchReply { fragment: true, ..reply(resume_revision, revisions) }
    }

    fn take(told: &mut Told, reply: v1::WatchReply) -> Vec<String> {
        told.take(Header::default(), reply).unwrap();
        let text = |watched: Watched| match watched.kind {
            WatchedKind::Started { from } => format!("started {from}"),
            WatchedKind::Changed { revision, changes } => format!("{revision} x{}", changes.len()),
            WatchedKind::Resumed { from } => format!("resumed {from}"),
            WatchedKind::Progress { from } => format!("progress {from}"),
            WatchedKind::Gap { from, to } => format!("gap {from}..{to}"),
        };
        told.pending.drain(..).map(text).collect()
    }

    #[test]
    fn each_revision_is_told_whole_also_when_it_comes_in_parts() {
        let mut told = Told::default();
        assert_eq!(take(&mut told, reply(5, &[])), ["started 5"]);
        assert_eq!(take(&mut told, reply(9, &[6, 6, 8])), ["6 x2", "8 x1"]);
        assert_eq!(take(&mut told, part(11, &[10, 11])), ["10 x1"]);
        assert_eq!(take(&mut told, part(11, &[11, 11])), [""; 0]);
        assert_eq!(take(&mut told, reply(13, &[11, 12])), ["11 x4", "12 x1"]);
        assert_eq!(take(&mut told, part(20, &[20])), [""; 0]);
        assert_eq!(take(&mut told, reply(21, &[])), ["20 x1"], "the last part has nothing more");
        assert_eq!(take(&mut told, reply(30, &[])), ["progress 30"]);
        assert_eq!(told.resume, Some(30));
    }

    #[test]
    fn what_came_in_part_before_a_break_is_told_again_whole() {
        let mut told = Told::default();
        take(&mut told, reply(5, &[]));
        take(&mut told, part(7, &[6, 7]));
        told.broken();
        assert_eq!(take(&mut told, reply(7, &[])), ["resumed 7"]);
        assert_eq!(take(&mut told, reply(8, &[7, 7])), ["7 x2"]);
    }

    #[test]
    fn a_restore_is_a_gap_also_where_the_restored_cluster_has_come_as_far() {
        let of = |generation| Header { generation, ..Header::default() };
        let mut told = Told::default();
        told.take(of(7), reply(50, &[])).unwrap();
        told.broken();
        told.pending.clear();
        // The same backup was restored a second time: revision 50 is another one there, or is still to come.
        assert_eq!(told.take(of(8), reply(50, &[])).unwrap(), Stream::Ends);
        assert_eq!((told.resume, told.pending.len()), (Some(1), 0));
        told.broken();
        let gap = v1::WatchReply { gap: Some(v1::watch_reply::Gap { first_revision: 40 }), ..reply(1, &[]) };
        assert_eq!(told.take(of(8), gap).unwrap(), Stream::Ends);
        assert_eq!(told.pending.pop_front().map(|it| it.kind), Some(WatchedKind::Gap { from: 1, to: 40 }));
        told.broken();
        assert_eq!(told.take(of(8), reply(40, &[])).unwrap(), Stream::GoesOn);
        assert_eq!(told.resume, Some(40));
    }

    #[test]
    fn a_gap_is_told_and_what_came_in_part_before_it_is_not() {
        let mut told = Told::default();
        take(&mut told, reply(5, &[]));
        take(&mut told, part(7, &[7]));
        let gap = v1::WatchReply { gap: Some(v1::watch_reply::Gap { first_revision: 12 }), ..reply(7, &[]) };
        assert_eq!(take(&mut told, gap), ["gap 7..12"]);
        told.broken();
        assert_eq!(take(&mut told, reply(12, &[])), ["resumed 12"]);
    }

    #[test]
    fn a_store_that_goes_back_is_not_followed() {
        let mut told = Told::default();
        take(&mut told, reply(5, &[]));
        let error = told.take(Header::default(), reply(4, &[])).unwrap_err();
        assert_eq!(error.kind, ErrorKind::BadAnswer);
    }
}

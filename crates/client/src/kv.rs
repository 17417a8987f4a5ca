//! Keys: one request each. A write may carry a fence, and a session that remembers its answer.

use palisade_fence::Fence;
use palisade_wire::coord::v1;
use palisade_wire::coord::v1::kv_service_client::KvServiceClient;
use palisade_wire::limits::MESSAGE_BYTES;

use crate::elections::repeat;
use crate::links::Channel;
use crate::serials::Serial;
use crate::{Client, Error, Header, KeyValue, Keys, Reading, Session};

/// A write of a key.
#[derive(Clone, Debug)]
pub struct PutOptions<'a> {
    /// 1 byte to 4 KiB.
    pub key: Vec<u8>,
    /// At most 1 MiB; `None`: the one that it has, and the key must be there.
    pub value: Option<Vec<u8>>,
    /// Applied only if this is the election's current token.
    pub fence: Option<Fence>,
    /// The session that remembers the answer, so that an unknown outcome is repeated and takes effect once. Without it an
    /// unknown outcome stays unknown: it is never sent again. The store remembers the last 1,024 answers of a session, so
    /// more writes than that in flight at once may end as [`crate::ErrorKind::Forgotten`], which is unknown too.
    pub session: Option<&'a Session>,
    /// The session that the key ends with.
    pub binding: Binding,
    /// Whether the answer has what was there before.
    pub show_previous: bool,
}

impl PutOptions<'_> {
    /// A plain write, unfenced, that no session remembers.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        PutOptions {
            key: key.into(),
            value: Some(value.into()),
            fence: None,
            session: None,
            binding: Binding::None,
            show_previous: false,
        }
    }
}

/// The session that a key is bound to: when that ends, the key is removed by the same command.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Binding {
    /// To none; one that it was bound to lets it go.
    #[default]
    None,
    /// To the session with this id, which must live ([`Session::id`]).
    To(u64),
    /// As it is; the key must be there.
    Keep,
}

/// A removal of keys.
#[derive(Clone, Debug)]
pub struct DeleteOptions<'a> {
    /// Which: at most 100,000.
    pub keys: Keys,
    /// Applied only if this is the election's current token.
    pub fence: Option<Fence>,
    /// As for [`PutOptions`].
    pub session: Option<&'a Session>,
    /// Whether the answer has what was there before.
    pub show_previous: bool,
}

impl DeleteOptions<'_> {
    /// A plain removal, unfenced, that no session remembers.
    pub fn new(keys: impl Into<Keys>) -> Self {
        DeleteOptions { keys: keys.into(), fence: None, session: None, show_previous: false }
    }
}

/// A key was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Of the command.
    pub header: Header,
    /// Of the key after this write; 1: the key was new. `None`: an earlier try of this request did it, and what that answered
    /// is no longer known.
    pub version: Option<u64>,
    /// What was there before; `None`: nothing, or it was not asked for, or is not known, as for `version`.
    pub previous: Option<KeyValue>,
}

/// A key was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// Of the state that was read.
    pub header: Header,
    /// `None`: there is no such key.
    pub kv: Option<KeyValue>,
}

/// Keys were deleted, or were not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// Of the command.
    pub header: Header,
    /// How many. `None`: it was done, and more is not known: an earlier try of this request did it, or what was there before
    /// is more than 2 MiB.
    pub deleted: Option<u64>,
    /// What was there before, in the order of keys, if it was asked for.
    pub previous: Vec<KeyValue>,
}

impl Client {
    /// Writes a key. Without a session in the options an unknown outcome stays unknown: it is never sent again.
    pub async fn put(&self, options: PutOptions<'_>) -> Result<Put, Error> {
        let (request, _serial) = put_request(options); // open until the answer is here
        let ask = self.shared.request(repeat(&request.request_id), |channel| {
            let request = request.clone();
            async move { client(channel).put(request).await }
        });
        Ok(Put::of(ask.await?))
    }

    /// Reads a key. Linearizable.
    pub async fn get(&self, key: Vec<u8>) -> Result<Got, Error> {
        self.get_as(key, Reading::Linearizable).await
    }

    /// The same, as new as is asked for.
    pub async fn get_as(&self, key: Vec<u8>, reading: Reading) -> Result<Got, Error> {
        let request = v1::GetRequest { key, serializable: reading.is_serializable() };
        let ask = self.shared.request(reading.repeat(), |channel| {
            let request = request.clone();
            async move { client(channel).get(request).await }
        });
        Ok(Got::of(ask.await?))
    }

    /// Deletes keys, whole or not at all; deleting nothing is no error.
    pub async fn delete(&self, options: DeleteOptions<'_>) -> Result<Deleted, Error> {
        let (request, _serial) = delete_request(options); // open until the answer is here
        let ask = self.shared.request(repeat(&request.request_id), |channel| {
            let request = request.clone();
            async move { client(channel).delete(request).await }
        });
        Ok(Deleted::of(ask.await?))
    }

    /// Forgets the past of keys before a revision: from it on, keys can still be read and watched. Refused as
    /// [`crate::ErrorKind::Compacted`] if that was done already, as [`crate::ErrorKind::FutureRevision`] if it has not come
    /// yet. `session` remembers the answer, as for [`PutOptions`].
    pub async fn compact(&self, revision: u64, session: Option<&Session>) -> Result<Header, Error> {
        let serial = session.map(|session| (session.id(), session.serial()));
        let request_id = serial.as_ref().map(|(session, serial)| serial.request_id(*session));
        let request = v1::CompactRequest { revision, request_id };
        let ask = self.shared.request(repeat(&request_id), |channel| async { client(channel).compact(request).await });
        Ok(Header::of(ask.await?.header.as_ref()))
    }
}

impl Put {
    pub(crate) fn of(reply: v1::PutReply) -> Put {
        Put {
            header: Header::of(reply.header.as_ref()),
            version: (!reply.not_kept).then_some(reply.version),
            previous: reply.previous.map(KeyValue::of),
        }
    }
}

impl Got {
    pub(crate) fn of(reply: v1::GetReply) -> Got {
        Got { header: Header::of(reply.header.as_ref()), kv: reply.kv.map(KeyValue::of) }
    }
}

impl Deleted {
    pub(crate) fn of(reply: v1::DeleteReply) -> Deleted {
        Deleted {
            header: Header::of(reply.header.as_ref()),
            deleted: (!reply.not_kept).then_some(reply.deleted),
            previous: reply.previous.into_iter().map(KeyValue::of).collect(),
        }
    }
}

/// A write as it is sent, with the serial that must stay open until it is answered.
pub(crate) fn put_request(options: PutOptions<'_>) -> (v1::PutRequest, Option<Serial>) {
    use v1::put_request::Binding as Bound;
    let (request_id, serial) = identified(options.session);
    let request = v1::PutRequest {
        key: options.key,
        keep_value: options.value.is_none(),
        value: options.value.unwrap_or_default(),
        fence: options.fence.as_ref().map(fence_to_wire),
        request_id,
        binding: match options.binding {
            Binding::None => None,
            Binding::To(session) => Some(Bound::Session(session)),
            Binding::Keep => Some(Bound::KeepSession(v1::put_op::Keep {})),
        },
        show_previous: options.show_previous,
    };
    (request, serial)
}

/// A removal, likewise.
pub(crate) fn delete_request(options: DeleteOptions<'_>) -> (v1::DeleteRequest, Option<Serial>) {
    let (request_id, serial) = identified(options.session);
    let (key, keys) = match options.keys {
        Keys::One(key) => (key, None),
        keys => (Vec::new(), Some(keys.to_wire())),
    };
    let request = v1::DeleteRequest {
        key,
        keys,
        fence: options.fence.as_ref().map(fence_to_wire),
        request_id,
        show_previous: options.show_previous,
    };
    (request, serial)
}

pub(crate) fn identified(session: Option<&Session>) -> (Option<v1::RequestId>, Option<Serial>) {
    let Some(session) = session else { return (None, None) };
    let serial = session.serial();
    (Some(serial.request_id(session.id())), Some(serial))
}

pub(crate) fn client(channel: Channel) -> KvServiceClient<Channel> {
    // What the store accepts it must be able to give back.
    KvServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES)
}

pub(crate) fn fence_to_wire(fence: &Fence) -> v1::Fence {
    v1::Fence { election: fence.election.clone(), token: fence.token.get() }
}

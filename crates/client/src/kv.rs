//! Keys: one request each. A write may carry a fence, and a session that remembers its answer.

use palisade_fence::Fence;
use palisade_wire::coord::v1;
use palisade_wire::coord::v1::kv_service_client::KvServiceClient;
use palisade_wire::limits::MESSAGE_BYTES;
use tonic::transport::Channel;

use crate::elections::repeat;
use crate::requests::Repeat;
use crate::{Client, Error, Header, Session};

/// A write of a key.
#[derive(Clone, Debug)]
pub struct PutOptions<'a> {
    /// 1 byte to 4 KiB.
    pub key: Vec<u8>,
    /// At most 1 MiB.
    pub value: Vec<u8>,
    /// Applied only if this is the election's current token.
    pub fence: Option<Fence>,
    /// The session that remembers the answer, so that an unknown outcome is repeated and takes effect once. Without it an
    /// unknown outcome stays unknown: it is never sent again. The store remembers the last 1,024 answers of a session, so
    /// more writes than that in flight at once may end as [`crate::ErrorKind::Forgotten`], which is unknown too.
    pub session: Option<&'a Session>,
}

/// A removal of a key.
#[derive(Clone, Debug)]
pub struct DeleteOptions<'a> {
    /// The key.
    pub key: Vec<u8>,
    /// Applied only if this is the election's current token.
    pub fence: Option<Fence>,
    /// As for [`PutOptions`].
    pub session: Option<&'a Session>,
}

/// A key was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    /// Of the command.
    pub header: Header,
    /// Of the key after this write; 1: the key was new.
    pub version: u64,
}

/// A key was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// Of the state that was read.
    pub header: Header,
    /// `None`: there is no such key.
    pub kv: Option<KeyValue>,
}

/// A key was deleted, or was not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deleted {
    /// Of the command.
    pub header: Header,
    /// 0 or 1.
    pub deleted: u64,
}

/// A key with its value and its history in numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Of the write that brought it into being.
    pub create_revision: u64,
    /// Of the last write.
    pub mod_revision: u64,
    /// 1 for the first write after it came into being.
    pub version: u64,
}

impl Client {
    /// Writes a key. Without a session in the options an unknown outcome stays unknown: it is never sent again.
    pub async fn put(&self, options: PutOptions<'_>) -> Result<Put, Error> {
        let serial = options.session.map(|session| (session.id(), session.serial()));
        let request = v1::PutRequest {
            key: options.key,
            value: options.value,
            fence: options.fence.as_ref().map(fence_to_wire),
            request_id: serial.as_ref().map(|(session, serial)| serial.request_id(*session)),
            ..v1::PutRequest::default()
        };
        let ask = self.shared.request(repeat(&request.request_id), |channel| {
            let request = request.clone();
            async move { client(channel).put(request).await }
        });
        let reply = ask.await?;
        Ok(Put { header: Header::of(reply.header.as_ref()), version: reply.version })
    }

    /// Reads a key. Linearizable.
    pub async fn get(&self, key: Vec<u8>) -> Result<Got, Error> {
        let request = v1::GetRequest { key, serializable: false };
        let ask = self.shared.request(Repeat::Read, |channel| {
            let request = request.clone();
            async move { client(channel).get(request).await }
        });
        let reply = ask.await?;
        let kv = reply.kv.map(|kv| KeyValue {
            key: kv.key,
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
        });
        Ok(Got { header: Header::of(reply.header.as_ref()), kv })
    }

    /// Deletes a key; deleting nothing is no error.
    pub async fn delete(&self, options: DeleteOptions<'_>) -> Result<Deleted, Error> {
        let serial = options.session.map(|session| (session.id(), session.serial()));
        let request = v1::DeleteRequest {
            key: options.key,
            fence: options.fence.as_ref().map(fence_to_wire),
            request_id: serial.as_ref().map(|(session, serial)| serial.request_id(*session)),
            ..v1::DeleteRequest::default()
        };
        let ask = self.shared.request(repeat(&request.request_id), |channel| {
            let request = request.clone();
            async move { client(channel).delete(request).await }
        });
        let reply = ask.await?;
        Ok(Deleted { header: Header::of(reply.header.as_ref()), deleted: reply.deleted })
    }
}

fn client(channel: Channel) -> KvServiceClient<Channel> {
    // What the store accepts it must be able to give back.
    KvServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES)
}

fn fence_to_wire(fence: &Fence) -> v1::Fence {
    v1::Fence { election: fence.election.clone(), token: fence.token.get() }
}

//! Many requests over one stream, for those who send more than one at a time: calls that are ready together travel together.
//!
//! Reading order: [`Pipeline`] (the handle), `book` (what is open, and what is sent again: pure), `driver` (the stream).
//!
//! It differs from single requests in one thing: when the stream breaks, all writes on it that carry no request id are unknown
//! at once.

mod book;
mod driver;

use std::sync::Arc;

use palisade_wire::coord::v1;
use palisade_wire::coord::v1::pipeline_answer::Answer as Body;
use palisade_wire::coord::v1::pipeline_call::Request;
use tokio::sync::{mpsc, oneshot};

use self::book::Asked;
use self::driver::{Driver, MAX_OPEN};
use crate::client::closed;
use crate::elections::repeat;
use crate::kv::{delete_request, put_request};
use crate::requests::{Repeat, Shared};
use crate::{
    Client, DeleteOptions, Deleted, Error, ErrorKind, Got, Put, PutOptions, RangeOptions, Ranged, Session, Txn, TxnDone,
};

/// A data stream. Cheap to clone: all clones share it. It is opened by the first call, moves to the store leader by itself, and
/// ends when the last handle is gone and all is answered.
#[derive(Clone, Debug)]
pub struct Pipeline {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Asked>,
}

impl Client {
    /// A data stream of its own; call it within a runtime. At most 4,096 of its calls are in flight: further ones wait.
    pub fn pipeline(&self) -> Pipeline {
        self.shared.keep_members();
        let (asks, queue) = mpsc::channel(MAX_OPEN);
        let driver = Driver::new(Arc::clone(&self.shared), queue);
        self.shared.world.spawn("palisade-pipeline", driver.run()).detach();
        Pipeline { shared: Arc::clone(&self.shared), asks }
    }
}

impl Pipeline {
    /// As [`Client::put`]. Calls that wait at the same time may take effect in any order.
    pub async fn put(&self, options: PutOptions<'_>) -> Result<Put, Error> {
        // Its serial is open until the answer is here.
        let (request, _serial) = put_request(options);
        match self.call(repeat(&request.request_id), Request::Put(request)).await? {
            Body::Put(reply) => Ok(Put::of(reply)),
            other => Err(another(&other)),
        }
    }

    /// As [`Client::get`].
    pub async fn get(&self, key: Vec<u8>) -> Result<Got, Error> {
        match self.call(Repeat::Read, Request::Get(v1::GetRequest { key, serializable: false })).await? {
            Body::Get(reply) => Ok(Got::of(reply)),
            other => Err(another(&other).of_a_read()),
        }
    }

    /// As [`Client::delete`].
    pub async fn delete(&self, options: DeleteOptions<'_>) -> Result<Deleted, Error> {
        let (request, _serial) = delete_request(options);
        match self.call(repeat(&request.request_id), Request::Delete(request)).await? {
            Body::Delete(reply) => Ok(Deleted::of(reply)),
            other => Err(another(&other)),
        }
    }

    /// As [`Client::range`], but always from the node that the stream is at.
    pub async fn range(&self, options: RangeOptions) -> Result<Ranged, Error> {
        match self.call(Repeat::Read, Request::Range(options.request())).await? {
            Body::Range(reply) => Ok(Ranged::of(reply)),
            other => Err(another(&other).of_a_read()),
        }
    }

    /// As [`Client::txn`].
    pub async fn txn(&self, txn: Txn, session: Option<&Session>) -> Result<TxnDone, Error> {
        let (request, _serial) = txn.request(session);
        match self.call(repeat(&request.request_id), Request::Txn(request)).await? {
            Body::Txn(reply) => TxnDone::of(reply),
            other => Err(another(&other)),
        }
    }

    /// Dropping the future does not take the call back.
    async fn call(&self, repeat: Repeat, request: Request) -> Result<Body, Error> {
        let (reply, answer) = oneshot::channel();
        let give_up_at = self.shared.world.now() + self.shared.request_timeout;
        let asked = Asked { request, repeat, floor: self.shared.seen.newest(), give_up_at, reply };
        // A driver that is gone drops the reply.
        let _ = self.asks.send(asked).await;
        answer.await.map_err(|_| closed())?
    }
}

fn another(body: &Body) -> Error {
    Error::unknown(ErrorKind::BadAnswer, format!("the store answered another call's question: {body:?}"))
}

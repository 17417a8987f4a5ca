//! Opens a stream and reads its answers until it ends.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::stream;
use palisade_world::World;
use prost::bytes::Bytes;
use tonic::Streaming;
use tonic::transport::Channel;

use super::codec::BytesCodec;
use super::open::Open;
use super::outbox::Outbox;
use super::{BATCH_BYTES, FRAME_OVERHEAD, PATH};

/// How long a stream may take to open, connecting included. The connector itself gives up after 500 ms.
const OPEN: Duration = Duration::from_secs(2);

/// Until the stream ends, or nobody uses it any more.
pub(super) async fn run(
    open: Weak<Open>,
    outbox: Arc<Outbox>,
    world: World,
    address: String,
    channel: Channel,
    max_message: usize,
) {
    let broken = |why: &str| {
        if let Some(open) = open.upgrade() {
            open.break_off(why);
        }
    };
    let opened = world.timeout(OPEN, open_stream(channel, outbox, max_message)).await;
    let mut answers = match opened {
        Some(Ok(answers)) => answers,
        Some(Err(status)) => return broken(&format!("{address}: {}", why(&status))),
        None => return broken(&format!("{address}: no stream within {OPEN:?}")),
    };
    loop {
        let batch = match answers.message().await {
            Ok(Some(batch)) => batch,
            Ok(None) => return broken(&format!("{address}: the process closed the stream")),
            Err(status) => return broken(&format!("{address}: {}", why(&status))),
        };
        let Some(open) = open.upgrade() else { return };
        if let Err(error) = open.received(batch) {
            return broken(&format!("{address}: an answer that cannot be read: {error}"));
        }
    }
}

async fn open_stream(
    channel: Channel,
    outbox: Arc<Outbox>,
    max_message: usize,
) -> Result<Streaming<Bytes>, tonic::Status> {
    let limit = max_message + BATCH_BYTES + FRAME_OVERHEAD;
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
    grpc.ready().await.map_err(|error| tonic::Status::from_error(error.into()))?;
    let batches = stream::unfold(outbox, |outbox| async move { Some((outbox.next().await?, outbox)) });
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(PATH);
    let answers = grpc.streaming(tonic::Request::new(batches), path, BytesCodec).await?;
    Ok(answers.into_inner())
}

/// The innermost words of a status: what the socket said.
fn why(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}

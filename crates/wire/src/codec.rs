//! protobuf messages in gRPC calls, with buffers of the size of our messages.
//!
//! tonic keeps a buffer for each direction of each call, 8 KiB unless it is told otherwise. Ours carry some hundred bytes most of the time,
//! and a node has tens of thousands of streams at once: what the buffers take from the caches costs more than what they hold.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, EncodeBuf};
use tonic_prost::{ProstCodec, ProstDecoder};

/// A buffer to begin with: room for a keep-alive, an event, a small write. What is larger gets what it needs, at once.
const BUFFER_BYTES: usize = 512;

/// As tonic's own: so much is gathered of messages that are ready before it is sent.
const SENT_AT_ONCE_BYTES: usize = 32 << 10;

fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, SENT_AT_ONCE_BYTES)
}

/// Sends `T`, receives `U`. The generated services and clients name it.
#[derive(Clone, Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Codec<T, U> {
        Codec(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Encoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Encoder<T> {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(buffers())
    }
}

/// Encodes messages.
#[derive(Clone, Debug)]
pub(crate) struct Encoder<T>(PhantomData<T>);

impl<T: Message> tonic::codec::Encoder for Encoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        buffers()
    }
}

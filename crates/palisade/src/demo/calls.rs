//! Reads along a connection of the RPC transport and counts the fenced calls in it: HTTP/2 frames, in them gRPC messages, in them
//! our envelope. Reads nothing that it does not need, and gives up (counts nothing more) on what it does not understand.

use std::collections::BTreeMap;

use palisade_rpc::v1::{Frames, frame};
use prost::Message;

/// "PRI * HTTP/2.0 …" opens every HTTP/2 connection.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const PADDED: u8 = 8;
/// A gRPC message: one byte for compression, four for the length.
const MESSAGE_HEADER: usize = 5;

/// Keeps what of a frame or a message has not arrived whole yet.
#[derive(Default)]
pub(crate) struct CallCounter {
    bytes: Vec<u8>,
    past_preface: bool,
    streams: BTreeMap<u32, Vec<u8>>,
}

impl CallCounter {
    /// Takes the next bytes of the connection; gives the number of fenced calls that became whole with them.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.extend_from_slice(bytes);
        if !self.past_preface {
            if self.bytes.len() < PREFACE {
                return 0;
            }
            self.bytes.drain(..PREFACE);
            self.past_preface = true;
        }
        let mut calls = 0;
        while let Some(header) = self.bytes.get(..FRAME_HEADER) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & (u32::MAX >> 1);
            if self.bytes.len() < FRAME_HEADER + length {
                break;
            }
            let frame: Vec<u8> = self.bytes.drain(..FRAME_HEADER + length).skip(FRAME_HEADER).collect();
            if kind == DATA && flags & PADDED == 0 {
                calls += self.data(stream, &frame);
            }
        }
        calls
    }

    fn data(&mut self, stream: u32, data: &[u8]) -> u64 {
        let pending = self.streams.entry(stream).or_default();
        pending.extend_from_slice(data);
        let mut calls = 0;
        while let Some(header) = pending.get(..MESSAGE_HEADER) {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            if pending.len() < MESSAGE_HEADER + length {
                break;
            }
            let message: Vec<u8> = pending.drain(..MESSAGE_HEADER + length).skip(MESSAGE_HEADER).collect();
            calls += fenced_calls(&message);
        }
        calls
    }
}

fn fenced_calls(message: &[u8]) -> u64 {
    let frames = Frames::decode(message).map(|frames| frames.frames).unwrap_or_default();
    frames.iter().filter(|frame| matches!(&frame.kind, Some(frame::Kind::Call(call)) if call.token != 0)).count() as u64
}

#[cfg(test)]
mod tests {
    use palisade_rpc::v1::{Call, Frame};

    use super::*;

    fn connection(tokens: &[u64]) -> Vec<u8> {
        let frames = tokens
            .iter()
            .map(|token| Frame { kind: Some(frame::Kind::Call(Call { token: *token, ..Call::default() })) });
        let message = Frames { frames: frames.collect() }.encode_to_vec();
        let mut grpc = vec![0];
        grpc.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        grpc.extend(message);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // A SETTINGS frame, then the message cut into two DATA frames.
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        for part in grpc.chunks(grpc.len().div_ceil(2)) {
            bytes.extend([0, 0, u8::try_from(part.len()).unwrap(), DATA, 0, 0, 0, 0, 1]);
            bytes.extend(part);
        }
        bytes
    }

    #[test]
    fn fenced_calls_are_counted_however_the_bytes_arrive() {
        let bytes = connection(&[7, 0, 9]);
        assert_eq!(CallCounter::default().read(&bytes), 2);
        let mut byte_by_byte = CallCounter::default();
        assert_eq!(bytes.iter().map(|byte| byte_by_byte.read(&[*byte])).sum::<u64>(), 2);
    }
}

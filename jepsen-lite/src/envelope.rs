//! A caller on the stream that Palisade's processes call each other on: frames of `palisade.rpc.v1`, made by hand.
//!
//! One call at a time. A tell is followed by an ask, whose answer says that the tell before it was not refused.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::{Called, channel};

#[allow(missing_docs, clippy::doc_markdown, unreachable_pub, dead_code)]
mod wire {
    tonic::include_proto!("palisade.rpc.v1");
}

use wire::{error, frame};

/// The version of the envelope that is spoken here.
const VERSION: u32 = 2;
const INTERFACE: &str = "palisade.runtime.v1.TaskExecutorGateway";
const ENDPOINT: &str = "taskexecutor";
const PATIENCE: Duration = Duration::from_secs(2);

/// A stream to one process.
#[derive(Debug)]
pub(crate) struct Envelope {
    frames: mpsc::Sender<wire::Frames>,
    answers: tonic::Streaming<wire::Frames>,
    last: u64,
}

impl Envelope {
    pub(crate) async fn open(address: &str) -> anyhow::Result<Envelope> {
        let (frames, waiting) = mpsc::channel(16);
        let mut client = wire::envelope_client::EnvelopeClient::new(channel(address)?);
        let hello = frame::Kind::Handshake(wire::Handshake {
            id: 1,
            version: VERSION,
            endpoint: ENDPOINT.to_owned(),
            interface: INTERFACE.to_owned(),
        });
        frames.try_send(batch(vec![hello]))?;
        let opened = tokio::time::timeout(PATIENCE, client.open(ReceiverStream::new(waiting))).await??;
        let mut envelope = Envelope { frames, answers: opened.into_inner(), last: 1 };
        match tokio::time::timeout(PATIENCE, envelope.answer(&[1])).await? {
            Some((_, None)) => Ok(envelope),
            Some((_, Some(refused))) => anyhow::bail!("the handshake was refused: {}", refused.message),
            None => anyhow::bail!("the stream broke"),
        }
    }

    /// The next answer to one of these calls; with its error, if it is one.
    async fn answer(&mut self, calls: &[u64]) -> Option<(u64, Option<wire::Error>)> {
        loop {
            for frame in self.answers.message().await.ok().flatten()?.frames {
                if let Some(frame::Kind::Answer(answer)) = frame.kind
                    && calls.contains(&answer.id)
                {
                    let refused = match answer.result {
                        Some(wire::answer::Result::Error(refused)) => Some(refused),
                        _ => None,
                    };
                    return Some((answer.id, refused));
                }
            }
        }
    }

    /// A tell under a token. It ran: a later call of the same stream was answered, and no refusal came before that.
    pub(crate) async fn tell(&mut self, election: &str, token: u64) -> Called {
        let (told, asked) = (self.last + 1, self.last + 2);
        self.last = asked;
        let call = |id, tell| {
            frame::Kind::Call(wire::Call {
                id,
                endpoint: ENDPOINT.to_owned(),
                interface: INTERFACE.to_owned(),
                method: "LeaderHeartbeat".to_owned(),
                election: election.to_owned(),
                token,
                deadline_ms: 1500,
                tell,
                ..wire::Call::default()
            })
        };
        if self.frames.try_send(batch(vec![call(told, true), call(asked, false)])).is_err() {
            return Called::Unknown("the stream broke".to_owned());
        }
        match tokio::time::timeout(PATIENCE, self.answer(&[told, asked])).await {
            // An answer to the ask alone: the tell was delivered before it, and not refused.
            Ok(Some((id, None))) if id == asked => Called::Ran,
            // The ask was refused first: of the tell nothing is known.
            Ok(Some((id, Some(_)))) if id == asked => Called::Unknown("the ask behind it was refused".to_owned()),
            Ok(Some((_, Some(refused)))) => match refused.kind() {
                error::Kind::Stale => Called::Refused("stale".to_owned()),
                error::Kind::Ahead => Called::Refused("ahead".to_owned()),
                error::Kind::NotLeader => Called::Refused("not_leader".to_owned()),
                error::Kind::NoToken => Called::Refused("no_token".to_owned()),
                _ => Called::Unknown(refused.message),
            },
            Ok(Some((_, None))) => Called::Unknown("a tell was answered".to_owned()),
            Ok(None) => Called::Unknown("the stream broke".to_owned()),
            Err(_) => Called::Unknown("timeout".to_owned()),
        }
    }
}

fn batch(kinds: Vec<frame::Kind>) -> wire::Frames {
    wire::Frames { frames: kinds.into_iter().map(|kind| wire::Frame { kind: Some(kind) }).collect() }
}

//! As much of HTTP/1.1 as Prometheus and health checks need: one `GET` or `HEAD` per connection, no bodies of requests.
//!
//! Ours, because the other half of hyper that could do this is as large as all of it, and this port needs nothing else.
//!
//! Keeps true: a connection that is slow, silent or sends too much is closed, and costs no more than its own small buffer.

use std::sync::Arc;
use std::time::Duration;

use palisade_world::{Listener, Socket, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Connections at once: some Prometheus servers and health checks.
const CONNECTIONS: usize = 32;

/// The head of a request: a path and what browsers add.
const HEAD_BYTES: usize = 8 << 10;

/// How long a request may take to arrive, and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause after an error of accepting, such as too many open files.
const AGAIN: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    /// `HEAD`: the answer goes without its body.
    head_only: bool,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn text(status: u16, body: impl Into<String>) -> Answer {
        Answer { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// Answers whoever connects, until it is dropped.
pub(super) async fn serve<A, F>(mut listener: Listener, answer: A, world: World)
where
    A: Fn(Request) -> F + Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Ends with this task: dropping a handle ends its task.
    let mut tasks = std::collections::VecDeque::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection for metrics failed");
                world.sleep(AGAIN).await;
                continue;
            }
        };
        let (answer, clock) = (answer.clone(), world.clone());
        tasks.push_back(world.spawn("metrics connection", async move {
            let _place = place;
            // A client that goes away, or is too slow, has no answer.
            let _ = clock.timeout(PATIENCE, converse(socket, answer)).await;
        }));
        // At most so many run: those before have ended, or nearly so.
        while tasks.len() > CONNECTIONS {
            tasks.pop_front();
        }
    }
}

async fn converse<A, F>(mut socket: Socket, answer: A) -> std::io::Result<()>
where
    A: Fn(Request) -> F,
    F: Future<Output = Answer>,
{
    let mut head = Vec::new();
    let parsed = loop {
        if let Some(parsed) = parse(&head) {
            break parsed;
        }
        let mut part = [0; 1024];
        let read = socket.read(&mut part).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(&part[..read]);
    };
    let (answer, head_only) = match parsed {
        Ok(request) => {
            let head_only = request.head_only;
            (answer(request).await, head_only)
        }
        Err(refusal) => (refusal, false),
    };
    socket.write_all(&encode(&answer, head_only)).await?;
    socket.shutdown().await
}

/// `None`: the head is not whole yet.
fn parse(head: &[u8]) -> Option<Result<Request, Answer>> {
    let whole = head.windows(4).any(|window| window == b"\r\n\r\n");
    if !whole {
        return (head.len() > HEAD_BYTES).then(|| Err(Answer::text(431, "the head of the request is too large\n")));
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    if !version.is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Some(Err(Answer::text(400, "this port speaks HTTP/1.1; clients have another\n")));
    }
    let path = target.unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    Some(match method {
        Some("GET") => Ok(Request { path, head_only: false }),
        Some("HEAD") => Ok(Request { path, head_only: true }),
        _ => Err(Answer::text(405, "GET or HEAD\n")),
    })
}

fn encode(answer: &Answer, head_only: bool) -> Vec<u8> {
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let Answer { status, kind, body } = answer;
    let length = body.len();
    let mut bytes = format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )
    .into_bytes();
    if !head_only {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(head: &[u8]) -> Option<u16> {
        match parse(head)? {
            Ok(_) => Some(200),
            Err(refusal) => Some(refusal.status),
        }
    }

    #[test]
    fn a_request_is_read_once_its_head_is_whole() {
        assert_eq!(parse(b"GET /metrics HTTP/1.1\r\nHost: x\r\n"), None);
        let whole = parse(b"GET /metrics?a=b HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(whole, Some(Ok(Request { path: "/metrics".to_owned(), head_only: false })));
        let head = parse(b"HEAD /readyz HTTP/1.0\r\n\r\n");
        assert_eq!(head, Some(Ok(Request { path: "/readyz".to_owned(), head_only: true })));
    }

    #[test]
    fn what_is_no_such_request_is_refused_with_words() {
        assert_eq!(status(b"POST /metrics HTTP/1.1\r\n\r\n"), Some(405));
        assert_eq!(status(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(400));
        assert_eq!(status(b"\xff\xfe\r\n\r\n"), Some(400));
        assert_eq!(status(&vec![b'a'; HEAD_BYTES + 1]), Some(431));
    }

    #[test]
    fn the_answer_to_head_has_the_length_and_no_body() {
        let answer = Answer::text(503, "no store leader\n");
        let (whole, head) = (encode(&answer, false), encode(&answer, true));
        assert!(whole.starts_with(&head) && whole.ends_with(b"no store leader\n"));
        assert!(head.ends_with(b"content-length: 16\r\nconnection: close\r\n\r\n"));
    }
}

//! A stream that only tells, across reconnects: opened at the store leader where that answers this client, else through a node
//! that does, and moved to the store leader when it answers again. What is told is for its owner to read.
//!
//! Keeps true: it has a place of its own on a connection that carries no requests.

use std::sync::Arc;
use std::time::Duration;

use palisade_wire::metadata;
use tonic::{Response, Status, Streaming};

use crate::Error;
use crate::backoff::{Backoff, WHILE_SEARCHING};
use crate::course::Course;
use crate::links::Channel;
use crate::requests::Shared;
use crate::stream_links::Seat;
use crate::way_back::{WayBack, way_back_to};

/// How long a node may take to accept a listener.
const ACCEPT: Duration = Duration::from_secs(1);

/// A stream of messages of one kind.
#[derive(Debug)]
pub(crate) struct Listening<M> {
    pub(crate) shared: Arc<Shared>,
    course: Course,
    open: Option<Open<M>>,
}

#[derive(Debug)]
struct Open<M> {
    receive: Streaming<M>,
    /// Another node forwards it: where the store leader is.
    way_back: Option<Arc<WayBack>>,
    _seat: Seat,
}

impl<M> Listening<M> {
    pub(crate) fn new(shared: Arc<Shared>) -> Listening<M> {
        let course = Course::new(&shared.links, Backoff::up_to(WHILE_SEARCHING));
        Listening { shared, course, open: None }
    }

    /// Whether there is a stream.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Leaves the stream. The next one is asked for at the same node.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    /// Asks one node for a stream, after a pause if many have been asked in vain; an error if no node can help. Cancelling it
    /// loses nothing.
    pub(crate) async fn open<Fut>(&mut self, ask: impl FnOnce(Channel) -> Fut) -> Result<(), Error>
    where
        Fut: Future<Output = Result<Response<Streaming<M>>, Status>>,
    {
        let Listening { shared, course, open } = self;
        shared.keep_members();
        let pause = course.attempt(&shared.links, &shared.world);
        if !pause.is_zero() {
            shared.world.sleep(pause).await;
        }
        let address = course.address().to_owned();
        let Ok(seat) = shared.stream_links.seat(&shared.world, &address, course.asking()) else {
            course.unanswered(&shared.links);
            return Ok(());
        };
        match shared.world.timeout(ACCEPT, ask(seat.channel.clone())).await {
            Some(Ok(accepted)) => {
                let leader = forwarded_from(&accepted);
                tracing::debug!(address, leader, "a node accepted a listener");
                let way_back = leader.map(|leader| way_back_to(shared, &leader));
                if way_back.is_none() {
                    shared.links.leads(&address);
                }
                *open = Some(Open { receive: accepted.into_inner(), way_back, _seat: seat });
                Ok(())
            }
            Some(Err(status)) => course.refused(&shared.links, &status),
            None => {
                shared.stream_links.forget(&address);
                course.unanswered(&shared.links);
                Ok(())
            }
        }
    }

    /// The stream, which is followed no more: what is left of it comes from where it was opened, and ends with that connection.
    pub(crate) fn into_open(self) -> Option<(Streaming<M>, Seat)> {
        self.open.map(|Open { receive, _seat: seat, .. }| (receive, seat))
    }

    /// The next message. `None`: there is no stream any more, and another is to be opened; an error if that would not help.
    /// Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Error> {
        let Listening { shared, course, open } = self;
        let Some(Open { receive, way_back, .. }) = open else { return Ok(None) };
        let message = tokio::select! {
            biased;
            message = receive.message() => message,
            leader = found(way_back.as_deref()) => {
                *open = None;
                course.go_to(&shared.links, leader);
                return Ok(None);
            }
        };
        match message {
            Ok(Some(message)) => {
                course.served();
                return Ok(Some(message));
            }
            Ok(None) => {}
            // Its connection broke, which says nothing about the next one.
            Err(status) if palisade_wire::status::detail(&status).is_none() => course.go_elsewhere(&shared.links),
            Err(status) => course.refused(&shared.links, &status)?,
        }
        *open = None;
        Ok(None)
    }
}

/// Waits until the store leader has answered; forever where that is who serves.
pub(crate) async fn found(way_back: Option<&WayBack>) -> String {
    match way_back {
        Some(way) => {
            way.found().await;
            way.leader.clone()
        }
        None => std::future::pending().await,
    }
}

/// Where the store leader is, if the node that accepted this stream forwards it.
pub(crate) fn forwarded_from<T>(accepted: &Response<T>) -> Option<String> {
    let leader = accepted.metadata().get(metadata::STORE_LEADER)?;
    leader.to_str().ok().map(str::to_owned)
}

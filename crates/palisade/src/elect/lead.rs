//! Opening a session and campaigning until leading, as `campaign` and `run` both do it.
//!
//! A candidate that has waited goes on waiting through everything that passes: a store without a leader, a session that ended, its
//! own predecessor under the same id whose session has not ended yet. Only what no waiting mends ends it.

use std::time::Duration;

use palisade_client::{CampaignOptions, Client, Error, ErrorKind, Leadership, Session, Value};
use palisade_world::World;

use super::campaign::Stop;
use crate::cli::SessionArgs;
use crate::exit::Failure;

/// Between attempts, with jitter on top.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether the store has been reached before: the first attempt fails at once, so that a wrong `--endpoints` is seen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Later,
}

/// The session and the leadership; or, when told to stop before, whether that was Ctrl-C.
#[allow(clippy::large_enum_variant)] // it is moved once
pub(super) enum Led {
    Leading(Session, Leadership),
    Stopped { interrupted: bool },
}

pub(super) async fn lead(
    election: &str,
    args: &SessionArgs,
    value: Value,
    mut attempt: Attempt,
    client: &Client,
    world: &World,
    stop: &mut Stop,
) -> Result<Led, Failure> {
    let mut said = None;
    loop {
        let opened = tokio::select! {
            interrupted = stop.asked() => return Ok(Led::Stopped { interrupted }),
            opened = super::open_session(args, client) => opened,
        };
        let error = match opened {
            Err(error) if attempt == Attempt::First => return Err(error.into()),
            Err(error) => error,
            Ok(session) => {
                attempt = Attempt::Later;
                let options = CampaignOptions {
                    election: election.to_owned(),
                    candidate_id: super::candidate_id(args),
                    value: value.clone(),
                    priority: args.priority,
                };
                let led = tokio::select! {
                    interrupted = stop.asked() => {
                        session.close().await?;
                        return Ok(Led::Stopped { interrupted });
                    }
                    led = session.campaign(options) => led,
                };
                match led {
                    Ok(leadership) => return Ok(Led::Leading(session, leadership)),
                    Err(error) => error,
                }
            }
        };
        if !passes(&error) {
            return Err(error.into());
        }
        if said != Some(error.kind) {
            eprintln!("palisade: campaigning again: {error}");
            said = Some(error.kind);
        }
        tokio::select! {
            interrupted = stop.asked() => return Ok(Led::Stopped { interrupted }),
            () = world.sleep(PAUSE + world.jitter(PAUSE)) => {}
        }
    }
}

fn passes(error: &Error) -> bool {
    !matches!(
        error.kind,
        ErrorKind::InvalidArgument
            | ErrorKind::WrongCluster
            | ErrorKind::Generation
            | ErrorKind::SerialReused
            | ErrorKind::BadAnswer
            | ErrorKind::ClientClosed
    )
}

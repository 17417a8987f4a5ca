//! `palisade elect campaign`: holds the leadership until SIGTERM, and campaigns again after it was lost or given up on request.

use palisade_client::{Client, EndRequest, Fence, Leadership, LeadershipState, Value};
use palisade_world::World;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::lead::{Attempt, Led, lead};
use crate::cli::{CampaignArgs, Global};
use crate::exit::Failure;
use crate::output::{self, Format};
use crate::units::ms;

/// What ended a term of leadership.
enum Ended {
    Lost,
    /// Somebody else is to lead.
    Asked(EndRequest),
    Stopped {
        interrupted: bool,
    },
}

pub(crate) async fn run(args: CampaignArgs, global: &Global, client: Client, world: World) -> Result<(), Failure> {
    let mut stop = Stop::new()?;
    let mut attempt = Attempt::First;
    loop {
        let value = Value { data: args.value.clone().into_bytes(), ..Value::default() };
        let led = lead(&args.election, &args.session, value, attempt, &client, &world, &mut stop).await?;
        let (session, leadership) = match led {
            Led::Leading(session, leadership) => (session, leadership),
            Led::Stopped { interrupted } => return stopped(interrupted),
        };
        attempt = Attempt::Later;
        match hold(&leadership, &args, global, &world, &mut stop).await {
            Ended::Lost => {
                // Ends whatever the store may still hold for this session before campaigning again.
                if let Err(error) = session.close().await {
                    tracing::warn!(%error, "closing the lost session failed; it ends at its TTL");
                }
            }
            Ended::Asked(EndRequest { to }) => {
                // Whoever reads this must stop before the store is told that anybody else may lead.
                let why = if to.is_some() { "transferred" } else { "resigned" };
                say_lost(global, &leadership.fence(), why);
                if let Err(error) = leadership.resign().await {
                    tracing::warn!(%error, "resigning failed; it is tried on while the session lives");
                }
                // Another session also where only the leadership was asked for: this one may be renewed no more.
                if let Err(error) = session.close().await {
                    tracing::warn!(%error, "closing the session failed; it ends at its TTL");
                }
            }
            Ended::Stopped { interrupted } => {
                leadership.resign().await?;
                session.close().await?;
                return stopped(interrupted);
            }
        }
    }
}

fn stopped(interrupted: bool) -> Result<(), Failure> {
    if interrupted { Err(Failure { message: String::new(), ..Failure::interrupted() }) } else { Ok(()) }
}

async fn hold(leadership: &Leadership, args: &CampaignArgs, global: &Global, world: &World, stop: &mut Stop) -> Ended {
    let fence = leadership.fence();
    let in_ms = |deadline| ms(std::time::Duration::saturating_sub(deadline, world.now()));
    let print = |event, text: String| print(global, &event, &text);
    print(
        json!({
            "event": "granted", "election": args.election, "candidate": leadership.grant().candidate,
            "token": fence.token.get(), "fence": fence.to_string(), "seq": leadership.grant().seq,
            "deadline_in_ms": in_ms(leadership.deadline()),
        }),
        format!("granted {fence}"),
    );
    let mut state = leadership.state();
    let mut suspect = false;
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            LeadershipState::Held { deadline } if suspect => {
                suspect = false;
                print(
                    json!({"event": "confirmed", "token": fence.token.get(), "fence": fence.to_string(), "deadline_in_ms": in_ms(deadline)}),
                    format!("confirmed {fence}"),
                );
            }
            LeadershipState::Suspect { deadline } if !suspect => {
                suspect = true;
                print(
                    json!({"event": "suspect", "token": fence.token.get(), "fence": fence.to_string(), "deadline_in_ms": in_ms(deadline)}),
                    format!("suspect {fence}: no connection to the store, {} ms left", in_ms(deadline)),
                );
            }
            LeadershipState::Lost { why } => {
                say_lost(global, &fence, &why.to_string());
                return Ended::Lost;
            }
            LeadershipState::Held { .. } | LeadershipState::Suspect { .. } => {}
        }
        tokio::select! {
            interrupted = stop.asked() => return Ended::Stopped { interrupted },
            request = leadership.end_requested() => return Ended::Asked(request),
            changed = state.changed() => if changed.is_err() { return Ended::Lost },
        }
    }
}

fn print(global: &Global, event: &serde_json::Value, text: &str) {
    match global.output {
        Some(Format::Json | Format::Jsonl) => output::line(&event.to_string()),
        Some(Format::Table) | None => output::line(text),
    }
}

fn say_lost(global: &Global, fence: &Fence, why: &str) {
    let event = json!({"event": "lost", "token": fence.token.get(), "fence": fence.to_string(), "why": why});
    print(global, &event, &format!("lost {fence}: {why}"));
}

/// SIGTERM or Ctrl-C.
pub(super) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    pub(super) fn new() -> std::io::Result<Stop> {
        Ok(Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Whether it was Ctrl-C. Cancelling it loses no signal.
    pub(super) async fn asked(&mut self) -> bool {
        tokio::select! {
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => true,
        }
    }
}

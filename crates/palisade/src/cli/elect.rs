//! The command line of elections and sessions.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::units::duration;

/// What a request is, for the help of the commands that make one.
const REQUESTS: &str = "A holder that keeps its leadership until its TTL is asked: the answer is 'requested', exit 0, and it resigns \
when it is ready; the request outlives the store leader. Any other holder is ended at once.";

#[derive(Subcommand, Debug)]
pub(crate) enum ElectCommand {
    /// Runs a command only while it leads; its token is in the environment.
    Run(RunArgs),
    /// Campaigns and holds the leadership until SIGTERM or Ctrl-C.
    Campaign(CampaignArgs),
    /// Prints the present state, then every change, until Ctrl-C.
    #[command(
        after_help = "Examples: from now on; and what followed the event with seq 41, or a gap and the present state.\n  \
palisade elect observe billing\n  palisade elect observe billing --from 41 --output jsonl"
    )]
    Observe {
        /// Name of the election.
        election: String,
        /// Go on after this seq instead of beginning with the present state; 0: from the first event.
        #[arg(long, value_name = "SEQ")]
        from: Option<u64>,
    },
    /// Prints who leads; exit 3 if nobody does.
    #[command(after_help = "Example:\n  palisade elect leader billing --output json")]
    Leader {
        /// Name of the election.
        election: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Lists all elections.
    #[command(after_help = "Example:\n  palisade elect list")]
    List {
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Lists who led before, oldest first, and why it ended.
    #[command(after_help = "Example:\n  palisade elect history billing")]
    History {
        /// Name of the election.
        election: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Ends a leadership by its token.
    #[command(after_help = format!("{REQUESTS}\n\nExample:\n  palisade elect resign billing --token 41"))]
    Resign {
        /// Name of the election.
        election: String,
        /// The holder's token; another one changes nothing.
        #[arg(long)]
        token: String,
        #[command(flatten)]
        demand: DemandArgs,
    },
    /// Ends a candidacy by the candidate's id; one that waits goes at once.
    #[command(after_help = format!("{REQUESTS}\n\nExample:\n  palisade elect withdraw billing --id billing-2"))]
    Withdraw {
        /// Name of the election.
        election: String,
        /// The candidate that is to stand no more.
        #[arg(long)]
        id: String,
        #[command(flatten)]
        demand: DemandArgs,
    },
    /// Hands a leadership over to a candidate that waits.
    #[command(after_help = format!("{REQUESTS}\n\nExample:\n  palisade elect transfer billing --to billing-2"))]
    Transfer {
        /// Name of the election.
        election: String,
        /// The candidate that is to lead; it must wait.
        #[arg(long, value_name = "ID")]
        to: String,
        /// Only if this is the holder's token; by default whoever leads.
        #[arg(long)]
        token: Option<String>,
        #[command(flatten)]
        demand: DemandArgs,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum SessionCommand {
    /// Lists the sessions that live.
    #[command(after_help = "Example:\n  palisade session list --output json")]
    List {
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Ends a session, or asks its client to.
    #[command(
        after_help = "A session that keeps leaderships until its TTL is asked: the answer is 'requested' with all that it will lose, \
exit 0. Any other session ends at once.\n\nExample:\n  palisade session close 4294967297"
    )]
    Close {
        /// Its id, as `session list` shows it.
        id: u64,
        #[command(flatten)]
        demand: DemandArgs,
    },
}

/// How new a read is.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct ReadArgs {
    /// From whichever node answers, also without a majority; it may be behind.
    #[arg(long)]
    pub(crate) serializable: bool,
}

/// How insistently something is to end.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct DemandArgs {
    /// Also renew the holder's session no more: all that it holds ends with its TTL, and is listed.
    #[arg(long, conflicts_with = "force")]
    pub(crate) end_session: bool,
    /// Act at once; the holder's own clock guard does not hold then.
    #[arg(long)]
    pub(crate) force: bool,
}

/// How a session is opened and a campaign is made.
#[derive(Args, Debug, Clone)]
pub(crate) struct SessionArgs {
    /// Candidate id, unique in the election; by default the host's name and the process id.
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Higher goes first in the line, within one priority whoever came first; it never preempts who leads.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    pub(crate) priority: i32,
    /// Time-to-live of the session: how long the leadership outlives a hang or a cut.
    #[arg(long, value_parser = duration, default_value = "1s", value_name = "D")]
    pub(crate) ttl: Duration,
    /// Hand over this long after the connection broke instead of at the TTL. Only for leaders whose effects are fenced.
    #[arg(long, value_parser = duration, value_name = "D")]
    pub(crate) release_after: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(
    after_help = "The command runs in a process group of its own with PALISADE_ELECTION, PALISADE_TOKEN, PALISADE_FENCE and \
PALISADE_CANDIDATE set. When the leadership is about to end unconfirmed, the group gets SIGTERM at the deadline minus --grace and \
SIGKILL at the deadline, also when `elect run` itself has died or is stopped: a small guardian process holds the deadline. A process \
that leaves the group escapes it. When somebody asks for the end of the leadership (`elect transfer`, say), the group ends as by \
SIGTERM, and then the leadership is handed over.

Example:
  palisade elect run billing --ttl 2s -- ./billing-daemon --port 80"
)]
pub(crate) struct RunArgs {
    /// Name of the election.
    pub(crate) election: String,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// Time between SIGTERM and SIGKILL; by default a quarter of the TTL.
    #[arg(long, value_parser = duration, value_name = "D")]
    pub(crate) grace: Option<Duration>,
    /// Campaign again when the command ends, instead of ending with its exit code.
    #[arg(long)]
    pub(crate) restart: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND ARG")]
    pub(crate) command: Vec<String>,
}

#[derive(Args, Debug)]
#[command(
    after_help = "When somebody asks for the end of its leadership (`elect transfer`, say) it prints 'lost', resigns at once, and \
campaigns again. Whoever acts on what it prints must therefore fence its effects; `elect run` waits until its command has ended.

Example:
  palisade elect campaign billing --id billing-1 --ttl 2s --output jsonl"
)]
pub(crate) struct CampaignArgs {
    /// Name of the election.
    pub(crate) election: String,
    #[command(flatten)]
    pub(crate) session: SessionArgs,
    /// What observers are told, as the value's data.
    #[arg(long, default_value = "")]
    pub(crate) value: String,
}

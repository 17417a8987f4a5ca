//! The command line, and nothing else: what can be asked for, with its help text.

mod bench;
mod elect;
mod kv;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::Targets;

pub(crate) use self::bench::{
    BenchCommand, FailoverArgs, FailoverMode, LoadArgs, NodeArgs, RpcLoadArgs, SessionLoadArgs, WatchLoadArgs,
};
pub(crate) use self::elect::{CampaignArgs, DemandArgs, ElectCommand, ReadArgs, RunArgs, SessionArgs, SessionCommand};
pub(crate) use self::kv::{FenceArg, GetArgs, KvCommand, ManyArgs, Sort, WatchArgs};
use crate::output::Format;
use crate::units::{address, duration};

/// What a JobManager takes from one TaskExecutor.
const SLOTS_MAX: i64 = palisade_runtime::resourcemanager::slot_manager::SLOTS_MAX as i64;

/// Version and commit, so that a harness can refuse a binary of another commit.
fn version() -> String {
    use crate::build_info::{COMMIT, VERSION};
    if COMMIT.is_empty() { VERSION.to_owned() } else { format!("{VERSION} ({COMMIT})") }
}

/// Elects leaders, issues fencing tokens, and keeps jobs going when a leader dies.
///
/// Every flag can also be given as an environment variable (PALISADE_ and the flag's name in capitals) or in the TOML file
/// named by --config; the flag wins over the environment, the environment over the file.
#[derive(Parser, Debug)]
#[command(name = "palisade", version = version(), arg_required_else_help = true, max_term_width = 120)]
#[command(
    after_help = "Exit codes: 0 done · 1 a check or a job failed · 2 usage · 3 refused by the store · 4 outcome unknown · \
5 no store leader reachable · 130 Ctrl-C"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// Nodes of the cluster, HOST:PORT, comma-separated.
    #[arg(long, global = true, value_delimiter = ',', default_value = "127.0.0.1:7070", value_name = "H:P,...")]
    pub(crate) endpoints: Vec<String>,
    /// Bounds a single request; never campaign, observe, watch or run.
    #[arg(long, global = true, value_parser = duration, default_value = "5s", value_name = "D")]
    pub(crate) timeout: Duration,
    /// Table for people (the default), json for one document, jsonl for a stream of lines.
    #[arg(long, short, global = true, value_enum)]
    pub(crate) output: Option<Format>,
    /// A TOML file whose keys are the long flags.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What to log to stderr, such as info or palisade_server=debug.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<Targets>,
    /// How to log.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Shows the whole thing on this machine: a cluster, leaders that are killed, a job whose result stays exact.
    Demo(DemoArgs),
    /// Runs one node of the coordination store.
    Server(ServerArgs),
    /// Runs one JobManager replica.
    Jobmanager(JobmanagerArgs),
    /// Runs one TaskExecutor.
    Taskexecutor(TaskexecutorArgs),
    /// Asks a node, JobManager or TaskExecutor whether it serves; exit 0 or 1. For container health checks.
    Health(HealthArgs),
    /// Campaigns, observes, and runs commands only while they lead.
    #[command(subcommand)]
    Elect(ElectCommand),
    /// Sessions: who is alive, and for how long. For administrators.
    #[command(subcommand)]
    Session(SessionCommand),
    /// Reads and writes keys.
    #[command(subcommand)]
    Kv(KvCommand),
    /// Looks at the cluster, and changes who belongs to it.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Submits jobs and asks about them.
    #[command(subcommand)]
    Job(JobCommand),
    /// Measures.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Prints a completion script.
    #[command(after_help = "Example:\n  palisade completions bash > /etc/bash_completion.d/palisade")]
    Completions {
        /// The shell to print it for.
        shell: clap_complete::Shell,
    },
    /// Holds the deadline of `elect run` and ends the child's process group when it passes.
    #[command(name = "elect-guardian", hide = true)]
    Guardian(GuardianArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "Example, three nodes on one machine:
  palisade server --id 1 --listen 127.0.0.1:7071 --data d1 --initial 1=127.0.0.1:7071,2=127.0.0.1:7072,3=127.0.0.1:7073
  palisade server --id 2 --listen 127.0.0.1:7072 --data d2 --initial ...    (the same list)
  palisade server --id 3 --listen 127.0.0.1:7073 --data d3 --initial ...
Example, a fourth that joins them after `palisade cluster add 4 127.0.0.1:7074`:
  palisade server --id 4 --listen 127.0.0.1:7074 --data d4 --join 127.0.0.1:7071")]
pub(crate) struct ServerArgs {
    /// This node's id, 1 or more, unique in the cluster and never used again for another data folder.
    #[arg(long)]
    pub(crate) id: u64,
    /// Where to listen. There is no authentication yet: anybody who can connect can do anything.
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "H:P")]
    pub(crate) listen: String,
    /// How other nodes and clients reach this one; by default as --initial names it.
    #[arg(long, value_name = "H:P")]
    pub(crate) advertise: Option<String>,
    /// Serves metrics for Prometheus and health over HTTP here: /metrics, /healthz, /readyz.
    #[arg(long, value_name = "H:P", value_parser = address)]
    pub(crate) metrics: Option<String>,
    /// The folder that holds everything. One process at a time.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// All nodes of a new cluster, this one included. Ignored with a notice once the data folder is in use.
    #[arg(long, value_delimiter = ',', value_name = "ID=H:P,...", required_unless_present = "join")]
    pub(crate) initial: Vec<String>,
    /// Members of a running cluster to join, after `palisade cluster add` on one of them: one is enough. Ignored with a notice
    /// once the data folder is in use.
    #[arg(long, value_delimiter = ',', value_name = "H:P,...", conflicts_with = "initial")]
    pub(crate) join: Vec<String>,
    /// Lowest session TTL that a client may ask for.
    #[arg(long, value_parser = duration, default_value = "200ms")]
    pub(crate) min_ttl: Duration,
    /// Highest session TTL that a client may ask for.
    #[arg(long, value_parser = duration, default_value = "10m")]
    pub(crate) max_ttl: Duration,
    /// Longest key that may be written, in bytes: at most 4 KiB.
    #[arg(long, value_name = "BYTES", default_value_t = 4_096)]
    pub(crate) max_key_bytes: usize,
    /// Largest value that may be written, in bytes: at most 1 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576)]
    pub(crate) max_value_bytes: usize,
    /// Conditions of a transaction, and operations of it, at most 128.
    #[arg(long, value_name = "COUNT", default_value_t = 128)]
    pub(crate) max_txn_ops: usize,
    /// Largest whole write request, in bytes: at most 1.5 MiB.
    #[arg(long, value_name = "BYTES", default_value_t = 1_572_864)]
    pub(crate) max_request_bytes: usize,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  palisade jobmanager --id jm-1 --storage /srv/palisade --endpoints 127.0.0.1:7071,127.0.0.1:7072"
)]
pub(crate) struct JobmanagerArgs {
    /// This replica's name, unique among the replicas; its candidate id.
    #[arg(long)]
    pub(crate) id: String,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "H:P")]
    pub(crate) listen: String,
    /// How others reach it; by default the address it listens on.
    #[arg(long, value_name = "H:P")]
    pub(crate) advertise: Option<String>,
    /// Serves metrics for Prometheus and health over HTTP here: /metrics, /healthz, /readyz.
    #[arg(long, value_name = "H:P", value_parser = address)]
    pub(crate) metrics: Option<String>,
    /// The folder, shared by all JobManagers and TaskExecutors, for payloads of checkpoints and results.
    #[arg(long)]
    pub(crate) storage: PathBuf,
    /// The election that the replicas contest.
    #[arg(long, default_value = "jobmanager")]
    pub(crate) election: String,
    /// Time-to-live of the session.
    #[arg(long, value_parser = duration, default_value = "2s")]
    pub(crate) ttl: Duration,
    /// How long the store waits after a broken connection before it hands over. Everything a JobManager does is fenced.
    #[arg(long, value_parser = duration, default_value = "0ms")]
    pub(crate) release_after: Duration,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  palisade taskexecutor --id te-1 --storage /srv/palisade --data te1 --endpoints 127.0.0.1:7071"
)]
pub(crate) struct TaskexecutorArgs {
    /// This worker's name, unique among the workers.
    #[arg(long)]
    pub(crate) id: String,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "H:P")]
    pub(crate) listen: String,
    /// How others reach it; by default the address it listens on.
    #[arg(long, value_name = "H:P")]
    pub(crate) advertise: Option<String>,
    /// Serves metrics for Prometheus and health over HTTP here: /metrics, /healthz, /readyz.
    #[arg(long, value_name = "H:P", value_parser = address)]
    pub(crate) metrics: Option<String>,
    /// The folder, shared by all JobManagers and TaskExecutors, for payloads of checkpoints and results.
    #[arg(long)]
    pub(crate) storage: PathBuf,
    /// This worker's own folder: the highest token it accepted, kept across restarts.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// How many subtasks it runs at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=SLOTS_MAX))]
    pub(crate) slots: u32,
    /// The election to follow.
    #[arg(long, default_value = "jobmanager")]
    pub(crate) election: String,
}

#[derive(Args, Debug)]
#[command(after_help = "Example:\n  palisade health 127.0.0.1:7071")]
pub(crate) struct HealthArgs {
    /// The address to ask; by default the first of --endpoints.
    #[arg(value_name = "H:P")]
    pub(crate) address: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct GuardianArgs {
    /// Descriptor from which commands are read.
    #[arg(long)]
    pub(crate) control_fd: u32,
    /// Descriptor to which reports are written.
    #[arg(long)]
    pub(crate) report_fd: u32,
    /// First deadline, nanoseconds of the boot-time clock.
    #[arg(long)]
    pub(crate) deadline_ns: u64,
    /// Time between SIGTERM and SIGKILL.
    #[arg(long)]
    pub(crate) grace_ms: u64,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Asks every node what it knows.
    #[command(after_help = "Examples:\n  palisade cluster status\n  palisade cluster status --output json")]
    Status,
    /// Lists the members as the store leader knows them: who votes, who has joined, how far behind each is.
    #[command(after_help = "Example:\n  palisade cluster members --output json")]
    Members,
    /// Adds a node as a learner: it gets a copy of everything and does not vote. Start it with --join then.
    #[command(
        after_help = "An id is used once, and ids rise: a machine that lost its disk comes back under a new one. The node counts for \
nothing before it is started and has joined; its data folder must be empty.\n\nExample, a fourth node (then start it there with \
`palisade server --id 4 --join`, and let it vote with `palisade cluster promote 4 --wait 1m`):\n  \
palisade cluster add 4 127.0.0.1:7074"
    )]
    Add {
        /// The node's id, above every id that the cluster ever had.
        id: u64,
        /// Where the other nodes and the clients reach it.
        #[arg(value_name = "H:P")]
        address: String,
    },
    /// Lets a learner vote, once it has caught up.
    #[command(
        after_help = "Refused while the node has not joined, does not answer, or is more than 1,000 log entries behind. --wait repeats it \
until then.\n\nExample:\n  palisade cluster promote 4 --wait 1m"
    )]
    Promote {
        /// The learner.
        id: u64,
        /// How long to wait for it to be fit.
        #[arg(long, value_parser = duration, default_value = "0s", value_name = "D")]
        wait: Duration,
    },
    /// Removes a node for good. A store leader hands over first.
    #[command(
        after_help = "Refused where the voters that answer would be no majority of those that remain: bring silent ones back, or remove \
those first. The removed node stops by itself within seconds if it runs. Its id and its data folder are never used again.\n\n\
Example:\n  palisade cluster remove 2"
    )]
    Remove {
        /// The node.
        id: u64,
    },
    /// Backups: saved from a running cluster, restored into the folders of a new one.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Lets the cluster use what its programs know since an upgrade. There is no way back.
    #[command(
        name = "raise-level",
        after_help = "Refused unless every member answers and runs a program that knows the level. From then on an older program refuses to \
start on any of their folders.\n\nExample, when all nodes are upgraded and shall stay so:\n  palisade cluster raise-level"
    )]
    RaiseLevel {
        /// The level; by default the highest that the store leader's program knows.
        #[arg(value_parser = clap::value_parser!(u32).range(1..))]
        level: Option<u32>,
    },
    /// Has another node lead the store.
    #[command(
        name = "transfer-leader",
        after_help = "Refused unless the node votes, answers and has caught up. No session is lost and no leadership changes by it.\n\n\
Example:\n  palisade cluster transfer-leader 3"
    )]
    TransferLeader {
        /// The voter that is to lead.
        id: u64,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum SnapshotCommand {
    /// Saves a backup of the whole cluster into a new file, while the cluster goes on.
    #[command(
        after_help = "The backup is of one moment: everything is in it that was acknowledged before this command began. The file gets its \
name when all of it was received, checked and synced; one that exists is never replaced.\n\n\
Example:\n  palisade cluster snapshot save monday.backup"
    )]
    Save {
        /// The file; must not exist.
        file: PathBuf,
    },
    /// Restores a backup into the folder of a first node of a new cluster.
    #[command(
        after_help = "Restore the same file for each of the first nodes, each into a folder of its own, here or on its machine; then start \
them with --initial. Stop the old cluster first: its nodes and the new ones refuse each other.\n\n\
The new cluster keeps the old one's id, so that fences go on comparing, and begins a new generation: all sessions have ended, nobody \
leads, keys are as they were, and every token is above all that were ever granted. Its generation is the highest that its first nodes \
bring. It rises by itself, for it is the seconds of the clock. --generation must be named, above all that the cluster ever had, in three \
cases: the clock was set back; the same file is restored twice within one second; or a restore after the backup was made with a \
--generation above the clock, which no older backup knows of.\n\n\
Example, three nodes on one machine (then start them with `palisade server --initial`):\n  \
palisade cluster snapshot restore monday.backup --data d1\n  \
palisade cluster snapshot restore monday.backup --data d2\n  \
palisade cluster snapshot restore monday.backup --data d3"
    )]
    Restore {
        /// The backup.
        file: PathBuf,
        /// The folder; new or empty.
        #[arg(long)]
        data: PathBuf,
        /// The lowest generation to begin with; by default the seconds since 2025-01-01, or one above the backup's if that is higher.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..1 << 31))]
        generation: Option<u32>,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum JobCommand {
    /// Submits a job described by a JSON file.
    #[command(after_help = "Example: counts the words of every regular file below a folder.\n  \
echo '{\"name\": \"words\", \"kind\": \"word_count\", \"input\": \"docs\", \"parallelism\": 2}' > job.json\n  \
palisade job submit job.json --wait\n\n\
\"input\" may also be a list of files; \"checkpoint_interval_ms\" and \"source_bytes_per_second\" can be given.")]
    Submit {
        /// The job's description.
        file: PathBuf,
        /// Wait for the result, also through failovers.
        #[arg(long)]
        wait: bool,
    },
    /// Lists jobs.
    #[command(after_help = "Example:\n  palisade job list --output json")]
    List,
    /// Shows one job.
    #[command(after_help = "Example, with the id that `job submit` printed:\n  palisade job status ID")]
    Status {
        /// The job's id.
        id: String,
    },
    /// Cancels a job.
    #[command(after_help = "Example, with the id that `job submit` printed:\n  palisade job cancel ID")]
    Cancel {
        /// The job's id.
        id: String,
    },
    /// Prints a finished job's result.
    #[command(after_help = "Example, with the id that `job submit` printed:\n  palisade job result ID")]
    Result {
        /// The job's id.
        id: String,
    },
}

#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:\n  palisade demo\n  palisade demo --input docs --kills 1 --keep run --output json")]
pub(crate) struct DemoArgs {
    /// Count the words of every regular file below this folder; by default of the text files that git tracks here.
    #[arg(long, value_name = "DIR")]
    pub(crate) input: Option<PathBuf>,
    /// How often the leading JobManager is killed.
    #[arg(long, default_value_t = 3)]
    pub(crate) kills: u32,
    /// Nodes of the store.
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: u32,
    /// JobManager replicas.
    #[arg(long, default_value_t = 3)]
    pub(crate) jobmanagers: u32,
    /// TaskExecutors.
    #[arg(long, default_value_t = 2)]
    pub(crate) taskexecutors: u32,
    /// Keep data, logs and results in this folder (it must be empty or absent).
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, Parser};

    use super::Cli;

    /// Every command that does something, with its name as it is typed.
    fn leaves(command: &Command, name: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let name = format!("{name} {}", sub.get_name());
            match sub.has_subcommands() {
                true => leaves(sub, &name, found),
                false => found.push((name, sub.clone())),
            }
        }
    }

    #[test]
    fn every_command_has_an_example_and_every_example_is_a_command_line() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "palisade", &mut found);
        assert!(found.len() > 25, "all commands are looked at: {}", found.len());
        for (name, command) in found {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{name} --help has no example");
            for line in help.lines().map(str::trim).filter(|line| line.starts_with("palisade ")) {
                assert!(line.starts_with(&name), "{name} --help shows another command: {line}");
                // Without what is the shell's, and what is said about it.
                let typed = line.split(' ').take_while(|word| !["<", ">", "(has", "(the"].contains(word));
                let words = typed.filter(|word| !word.is_empty()).map(|word| word.trim_matches(['"', '\'']));
                if let Err(error) = Cli::try_parse_from(words) {
                    panic!("{name} --help: {line}: {error}");
                }
            }
        }
    }
}

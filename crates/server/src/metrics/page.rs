//! What Prometheus is told about a node. Names and units stand here and nowhere else; the operator's page explains those that
//! raise an alarm.

use std::sync::Arc;

use palisade_metrics::{Kind, Labelled, Page};
use palisade_replica::{Machine, RaftFigures, Replica};
use palisade_storage::{EngineHealth, LogMetrics};

use super::{CodeLabel, NodeMetrics};
use crate::admission::Admission;
use crate::build_info;
use crate::health::Health;
use crate::machine::CoordMachine;
use crate::proposer::Proposer;

/// Where the numbers of a node are. Cheap to clone; let go of it before the node is shut down.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) node_id: u64,
    pub(crate) commit: &'static str,
    pub(crate) machine: Arc<CoordMachine>,
    pub(crate) replica: Replica<CoordMachine>,
    pub(crate) proposer: Proposer,
    pub(crate) admission: Admission,
    pub(crate) health: Health,
    /// `None`: simulated disks count nothing.
    pub(crate) log: Option<Arc<LogMetrics>>,
}

impl Sources {
    /// Writes all of it. Looks at the state once, briefly.
    pub(crate) fn write(&self, page: &mut Page) {
        let metrics = self.machine.metrics();
        self.identity(page);
        self.state(page);
        coordination(metrics, page);
        refusals(metrics, page);
        self.writes(metrics, page);
        self.log(page);
        raft(&self.replica.figures(), metrics, page);
        self.listeners(metrics, page);
        self.queues(metrics, page);
    }

    fn identity(&self, page: &mut Page) {
        let (node, cluster) = (self.node_id.to_string(), self.machine.founded().borrow().map(|id| id.to_string()));
        let mut info = page.family("palisade_node_info", Kind::Gauge, "1; which node of which cluster this is.");
        info.sample(&[("node", &node), ("cluster", &cluster.unwrap_or_default())], 1_u64);
        let mut build = page.family("palisade_build_info", Kind::Gauge, "1; what was built.");
        build.sample(&[("version", build_info::VERSION), ("commit", self.commit)], 1_u64);
        let problems = self.health.problems();
        page.gauge("palisade_healthy", "1 if this node serves or can name the one that does.", problems.is_empty());
        let full = matches!(&*self.health.disk.borrow(), EngineHealth::DiskFull { .. });
        page.gauge("palisade_disk_full", "1 if this node refuses writes for lack of space.", full);
        let failed = matches!(&*self.health.disk.borrow(), EngineHealth::Failed { .. });
        page.gauge("palisade_log_failed", "1 if the log cannot be written any more; the node stops.", failed);
    }

    fn state(&self, page: &mut Page) {
        let (sessions, elections, keys, seq, revision, generation) = self.machine.read(|state| {
            let keys = state.keys().count();
            (state.session_count(), state.election_count(), keys, state.seq(), state.revision(), state.generation())
        });
        page.gauge("palisade_sessions", "Live sessions, as far as this node has applied.", sessions);
        page.gauge("palisade_elections", "Elections that anybody ever campaigned in.", elections);
        page.gauge("palisade_keys", "Keys.", keys);
        page.gauge("palisade_seq", "Commands applied since the cluster was founded.", seq.get());
        page.gauge("palisade_revision", "Commands that changed a key.", revision.get());
        page.gauge("palisade_generation", "Raised by a restore.", generation);
        let level = self.machine.level();
        page.gauge(
            "palisade_level",
            "What the programs of the cluster have agreed on; raised by an operator.",
            level.at,
        );
        page.gauge("palisade_known_level", "The highest level that this node's program knows.", level.known);
    }

    fn writes(&self, metrics: &NodeMetrics, page: &mut Page) {
        page.counter(
            "palisade_commands_applied_total",
            "Commands applied since this process serves.",
            &metrics.applied,
        );
        page.counter(
            "palisade_commands_refused_total",
            "Applied commands whose outcome is a refusal.",
            &metrics.refused_when_applied,
        );
        let help = "From a command's arrival at the store leader to its outcome.";
        page.histogram("palisade_proposal_seconds", help, &metrics.proposal);
        let help = "From an entry's way into Raft until a majority has it on disk, at the store leader.";
        page.histogram("palisade_commit_seconds", help, &self.replica.metrics().commit);
        page.histogram("palisade_apply_seconds", "Applying one entry to the state.", &metrics.apply);
        let help = "A quorum round: does this node still lead? Reads and keep-alives wait for one.";
        page.histogram("palisade_quorum_round_seconds", help, &self.replica.metrics().rounds);
    }

    fn log(&self, page: &mut Page) {
        let Some(log) = &self.log else { return };
        page.histogram("palisade_log_write_seconds", "Writing one group of records, before its sync.", &log.write);
        page.histogram("palisade_log_sync_seconds", "One fdatasync of the log.", &log.sync);
        page.counter("palisade_log_submits_total", "What was given to the log to write.", &log.submits);
        page.counter("palisade_log_submitted_bytes_total", "Bytes of it.", &log.bytes);
        page.gauge("palisade_log_queue_bytes", "Bytes that wait for the log's writer.", log.queue_bytes.get());
        page.counter("palisade_log_queue_waits_total", "Submits that waited because its queue was full.", &log.waits);
    }

    fn listeners(&self, metrics: &NodeMetrics, page: &mut Page) {
        let hub = self.machine.hub();
        page.gauge("palisade_connections", "Connections of clients and other nodes.", metrics.connections.get());
        let help = "Streams of sessions that this node, as the store leader, serves.";
        page.gauge("palisade_session_streams", help, metrics.session_streams.get());
        page.gauge("palisade_observers", "Observers of elections at this node.", hub.observer_count());
        page.gauge("palisade_watchers", "Watchers of keys at this node.", hub.wakers().count());
        let help = "Gaps told to observers and watchers: what lay in them is no longer kept.";
        page.counters("palisade_gaps_total", help, "kind", &metrics.gaps);
        let help = "Listeners that were cut off because they do not read.";
        page.counters("palisade_cut_off_total", help, "kind", &metrics.cut_off);
    }

    fn queues(&self, metrics: &NodeMetrics, page: &mut Page) {
        let queues = self.proposer.queues();
        let mut length = page.family("palisade_queue_length", Kind::Gauge, "What waits, by queue.");
        for queue in &queues {
            length.sample(&[("queue", queue.name)], queue.length);
        }
        length.sample(&[("queue", "session_frames")], metrics.session_inputs.get());
        let help = "How much may wait; then it is refused, or in the case of session frames not read.";
        let mut limit = page.family("palisade_queue_limit", Kind::Gauge, help);
        for queue in &queues {
            limit.sample(&[("queue", queue.name)], queue.limit);
        }
        limit.sample(&[("queue", "session_frames")], crate::sessions::INPUTS);
        let mut flight = page.family("palisade_in_flight", Kind::Gauge, "What is being worked on, by kind.");
        flight.sample(&[("kind", "entries")], metrics.entries_in_flight.get());
        for (kind, used, _) in self.admission.used() {
            flight.sample(&[("kind", kind)], used);
        }
        let mut limit = page.family("palisade_in_flight_limit", Kind::Gauge, "How many there may be.");
        limit.sample(&[("kind", "entries")], crate::proposer::MAX_IN_FLIGHT);
        for (kind, _, most) in self.admission.used() {
            limit.sample(&[("kind", kind)], most);
        }
        let help = "Lines of the log about elections that were left out because there were too many.";
        page.counter("palisade_log_lines_left_out_total", help, &metrics.untold);
    }
}

fn coordination(metrics: &NodeMetrics, page: &mut Page) {
    let help = "Leaderships granted, by what ended the one before; vacant: nobody led.";
    page.counters("palisade_grants_total", help, "after", &metrics.grants);
    page.counters("palisade_leaderships_ended_total", "Leaderships ended.", "why", &metrics.leaderships_ended);
    page.counter("palisade_sessions_opened_total", "Sessions opened.", &metrics.sessions_opened);
    page.counters("palisade_sessions_ended_total", "Sessions ended.", "why", &metrics.sessions_ended);
}

/// By code and reason in one name: our own reasons, and codes of refusals that carry none.
fn refusals(metrics: &NodeMetrics, page: &mut Page) {
    let mut family = page.family("palisade_refusals_total", Kind::Counter, "What clients were refused by this node.");
    for (code, reason, count) in metrics.refusals.all() {
        family.sample(&[("code", code), ("reason", &reason)], count);
    }
    for code in CodeLabel::ALL {
        family.sample(&[("code", code.label()), ("reason", "none")], metrics.bare_refusals.get(*code));
    }
}

fn raft(raft: &RaftFigures, metrics: &NodeMetrics, page: &mut Page) {
    page.gauge("palisade_raft_term", "Raft's term.", raft.term);
    page.gauge("palisade_raft_leads", "1 if this node leads the store, as far as it knows.", raft.leads);
    let help = "Id of the node that leads the store, as far as this one knows; 0: none.";
    page.gauge("palisade_raft_leader", help, raft.leader);
    page.counter("palisade_raft_leader_changes_total", "Changes of it that this node saw.", &metrics.leader_changes);
    page.gauge("palisade_raft_last_log_index", "Last entry of this node's log.", raft.last_log);
    page.gauge("palisade_raft_committed_index", "Last entry known to be on a majority's disks.", raft.committed);
    page.gauge("palisade_raft_applied_index", "Last entry applied to the state.", raft.applied);
    page.gauge("palisade_raft_snapshot_index", "Last entry in the latest snapshot; 0: none.", raft.snapshot);
    page.gauge("palisade_raft_purged_index", "Last entry that is no longer in the log; 0: none.", raft.purged);
    page.gauge("palisade_raft_voters", "Nodes that vote.", raft.voters);
    page.gauge("palisade_raft_learners", "Nodes that listen and do not vote.", raft.learners);
    let help = "At the store leader: entries that a node has not acknowledged.";
    let mut lag = page.family("palisade_raft_follower_lag_entries", Kind::Gauge, help);
    for (node, behind) in &raft.followers {
        lag.sample(&[("follower", &node.to_string())], *behind);
    }
}

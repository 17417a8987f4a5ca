//! The list of all bugs that can be planted, in the order of the crates that they break.

/// One line per bug: what it does wrong, and the name under which it is chosen.
macro_rules! bugs {
    ($(#[doc = $wrong:literal] $bug:ident = $name:literal,)+) => {
        /// A bug that can be switched on.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Bug {
            $(#[doc = $wrong] $bug,)+
        }

        #[cfg(feature = "planted")]
        impl Bug {
            /// Every bug.
            pub const ALL: &[Bug] = &[$(Bug::$bug,)+];

            /// The name under which it is chosen.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$bug => $name,)+ }
            }

            /// What it does wrong, in one sentence.
            pub fn wrong(self) -> &'static str {
                match self { $(Bug::$bug => $wrong.trim_ascii(),)+ }
            }
        }
    };
}

bugs! {
    // storage

    /// Callbacks run before the sync.
    AckBeforeSync = "ack-before-sync",
    /// The vote is acknowledged and never written.
    ForgetVote = "forget-vote",
    /// Takes sled's flush for a sync: what it wrote survives the process and not the machine.
    SkipDataSync = "skip-data-sync",
    /// Leaves the names in a folder to the operating system: a file that was renamed is under its old name after a power cut.
    SkipFolderSync = "skip-folder-sync",
    /// Does not compare the checksum of a block of a snapshot with its bytes.
    SnapshotPieceUnchecked = "snapshot-piece-unchecked",
    /// Asks for a sync again after one has failed, and believes the second answer: by then the kernel has forgotten the pages.
    GoOnAfterFailedSync = "go-on-after-failed-sync",

    // coord-core

    /// Fills a vacated election twice in one command.
    GrantTwice = "grant-twice",
    /// Grants under the token that was granted last.
    TokenNotRaised = "token-not-raised",
    /// Accepts any fence.
    SkipFenceCheck = "skip-fence-check",
    /// Ends a session and leaves one of its leaderships or candidacies standing.
    EndedSessionKeepsLeadership = "ended-session-keeps-leadership",
    /// Looks no request id up: a request that is repeated takes effect twice.
    ForgetAnswers = "forget-answers",
    /// Ends a page of changes within a revision and does not say so: a watcher takes a part of a transaction for all of it.
    RevisionSplit = "revision-split",
    /// Leaves the last operation of a transaction out.
    HalfTransaction = "half-transaction",
    /// Does what a transaction asks for whatever its conditions say.
    ConditionsIgnored = "conditions-ignored",
    /// Begins a restored cluster in the generation of its backup, with the first token of it.
    ResetTokenOnRestore = "reset-token-on-restore",
    /// Lets a key's session go with a write that is to keep it: the key outlives the session.
    KeepLetsGo = "keep-lets-go",

    // liveness

    /// Acknowledges a keep-alive as it arrives.
    AckWithoutQuorumRound = "ack-without-quorum-round",
    /// Proposes an end without the attach generation that it rests on.
    ExpireWithoutCondition = "expire-without-condition",
    /// Expires sessions after a pause of the store leader as if it had listened all the while.
    LateTickNotMoved = "late-tick-not-moved",
    /// Begins a leadership of the store with deadlines that passed before it, instead of giving every session its time anew.
    DeadlinesOfBefore = "deadlines-of-before",
    /// Goes on renewing a session although somebody asked that it be renewed no more.
    RenewsWhenAskedNotTo = "renews-when-asked-not-to",
    /// Counts the death of a relay as the disconnect of the clients behind it.
    RelayDeathReleases = "relay-death-releases",
    /// Accepts no stream again after a quorum was lost and came back.
    StaysShut = "stays-shut",

    // wire

    /// Leaves the memory of answers out of the snapshot.
    AnswersLostAtSnapshot = "answers-lost-at-snapshot",
    /// Reads keys as they are, whatever revision is asked for.
    PastAsPresent = "past-as-present",

    // replica

    /// Does not compare store ids: a wiped node under its old id votes and acknowledges.
    WipedNodeVotes = "wiped-node-votes",
    /// Counts a node whose data folder was replaced by an older copy as if nothing were missing.
    OlderCopyCounts = "older-copy-counts",
    /// Takes a snapshot from another node as it comes, without comparing checksums.
    SnapshotChunkUnchecked = "snapshot-chunk-unchecked",
    /// Succeeds a store leader although nobody else has lost it.
    StandUnasked = "stand-unasked",
    /// Says that a node is removed, and goes on counting it.
    RemovedNodeCounts = "removed-node-counts",
    /// Hears and counts a node that was added and has not said which store it has.
    UnboundLearnerCounts = "unbound-learner-counts",
    /// Gives an id that a lost node had to another one.
    NodeIdUsedAgain = "node-id-used-again",
    /// A store leader without a quorum goes on with its heartbeats, and keeps those who hear it from electing another.
    NoQuorumLossProbe = "no-quorum-loss-probe",
    /// Counts what a voter said to the question of an earlier quorum round.
    OldYesCounts = "old-yes-counts",
    /// Lets a new store leader serve before it has applied its own first entry.
    AttachWithoutAppliedFirstEntry = "attach-without-applied-first-entry",

    // server

    /// Serves a linearizable read from what this node has applied, without a round.
    ReadWithoutRound = "read-without-round",
    /// Tells a candidate of its grant while the end of the grant before is only proposed.
    GrantBeforeEnd = "grant-before-end",
    /// Lets observers of a node stay while it is behind and installs a snapshot: they miss what lay between.
    EventsLostAtSnapshot = "events-lost-at-snapshot",
    /// Raises the level of the cluster without asking the nodes whether they know it.
    LevelUnasked = "level-unasked",
    /// Writes a snapshot whose keys are from a later moment than the rest: torn between two states.
    SnapshotTorn = "snapshot-torn",
    /// Answers a command whose outcome is unknown as not applied.
    UnknownAsNotApplied = "unknown-as-not-applied",
    /// Lets a watcher that is still reading the past go on from the change that it is woken for.
    WatchSkipsToLive = "watch-skips-to-live",
    /// Lets a watcher go on after what was compacted as if nothing were missing.
    CompactionUntold = "compaction-untold",
    /// Lets an observer that resumes go on over events that are no longer kept as if nothing were missing.
    GapUntold = "gap-untold",
    /// Counts the deadlines of sessions on the clock on the wall, which somebody may set.
    ExpireByWallClock = "expire-by-wall-clock",

    // client

    /// Sends a write without a request id again after an unknown outcome.
    RetryUnknownWithoutId = "retry-unknown-without-id",
    /// Counts the deadline from when a keep-alive was acknowledged, not from when it was sent.
    DeadlineFromReceiveTime = "deadline-from-receive-time",
    /// Believes in a leadership for twice the TTL.
    LostTooLate = "lost-too-late",
    /// Resigns without telling the holder that it has lost.
    LostAfterResign = "lost-after-resign",
    /// Forgets a campaign that was abandoned instead of withdrawing it: its candidate stays in the line, and is granted one day.
    AbandonedNotWithdrawn = "abandoned-not-withdrawn",

    // rpc

    /// Trusts the check at arrival: a message that waited in the mailbox runs under a token that is stale by then.
    SkipCheckAtDequeue = "skip-check-at-dequeue",
    /// Takes a token that differs from the guard's for a newer one.
    CompareWithNotEqual = "compare-with-not-equal",
    /// Delivers a tell of another process twice.
    TellTwice = "tell-twice",
    /// Raises a guard in memory only: a worker that restarts has forgotten it.
    GuardForgets = "guard-forgets",
    /// Does not check the guard again when a step resumes after an await.
    StepWithoutCheck = "step-without-check",
    /// Queues a control message behind the work that came before it.
    ControlBehindWork = "control-behind-work",
    /// Counts a tell as handled when it arrives, so that its sender is let go on while the mailbox is full.
    CreditAtArrival = "credit-at-arrival",
    /// Takes the message behind the one that runs although `on_stop` has ended.
    MessageAfterStop = "message-after-stop",
    /// Does not raise guards with the observe stream: a late message of a replaced leader runs until the next one calls.
    DeafGuard = "deaf-guard",
    /// Raises a guard to any higher token without asking the election.
    BelieveAnyToken = "believe-any-token",
    /// Goes on sending heartbeats to a leader that had given this process up, instead of registering again.
    NotRegisteredAgain = "not-registered-again",
    /// Follows whatever leader an election's views name, also one that was replaced.
    FollowsBackwards = "follows-backwards",
    /// Never notices a silence.
    SilenceUnnoticed = "silence-unnoticed",

    // runtime

    /// Takes a pointer write whose outcome is unknown for applied.
    ConfirmUnknownPointer = "confirm-unknown-pointer",
    /// Begins a restored source one word too late.
    RestoredSourceSkipsAWord = "restored-source-skips-a-word",
    /// Lets a channel of an older attempt into the gate of a newer one.
    OldAttemptAccepted = "old-attempt-accepted",

    // palisade

    /// Lets the command of `elect run` go on after the deadline, and after `elect run` itself is gone.
    ChildOutlivesLeadership = "child-outlives-leadership",
}

#[cfg(feature = "planted")]
impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        let names = || Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
        let bug = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
        bug.ok_or_else(|| format!("no planted bug '{name}': there are {}", names()))
    }
}

//! The processes of a run, by role and number.

use std::fmt;
use std::str::FromStr;

/// What a process does. Nodes come first: the others cannot do without them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// A node of the store.
    Node,
    /// Campaigns in an election and writes under its tokens.
    Candidate,
    /// Writes and reads registers through a client.
    Writer,
    /// Likewise, without a client's care: sends every request more than once.
    Duplicator,
    /// Moves what accounts hold from one to another in transactions, reads the past, and compacts it.
    Transactor,
    /// Follows an election from outside.
    Observer,
    /// Watches keys.
    Watcher,
    /// Looks who leads, and ends leaderships from outside.
    Administrator,
    /// Serves a fenced endpoint that the leading candidate calls.
    Ledger,
    /// Sends again what leaders sent to ledgers.
    Repeater,
    /// Contests the leadership over jobs, and runs them while it leads.
    JobManager,
    /// Runs the tasks of jobs.
    TaskExecutor,
    /// Has words counted, one job after the other.
    Submitter,
    /// Campaigns without a client: attaches its session by a stream that only the store sends on, and calls for everything else.
    Caller,
    /// Changes who belongs to the cluster, and who leads the store.
    Operator,
    /// Saves backups.
    Archivist,
}

/// Every role, in order.
pub(super) const ROLES: [Role; 16] = [
    Role::Node,
    Role::Candidate,
    Role::Writer,
    Role::Duplicator,
    Role::Transactor,
    Role::Observer,
    Role::Watcher,
    Role::Administrator,
    Role::Ledger,
    Role::Repeater,
    Role::JobManager,
    Role::TaskExecutor,
    Role::Submitter,
    Role::Caller,
    Role::Operator,
    Role::Archivist,
];

impl Role {
    /// Its name in plans and traces.
    pub fn name(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Candidate => "candidate",
            Role::Writer => "writer",
            Role::Duplicator => "duplicator",
            Role::Transactor => "transactor",
            Role::Observer => "observer",
            Role::Watcher => "watcher",
            Role::Administrator => "administrator",
            Role::Ledger => "ledger",
            Role::Repeater => "repeater",
            Role::JobManager => "jobmanager",
            Role::TaskExecutor => "taskexecutor",
            Role::Submitter => "submitter",
            Role::Caller => "caller",
            Role::Operator => "operator",
            Role::Archivist => "archivist",
        }
    }

    /// Whether faults may end such a process. The others keep the books of a run: what they saw must not be lost.
    pub fn may_crash(self) -> bool {
        match self {
            Role::Node | Role::Candidate | Role::Caller | Role::Ledger | Role::JobManager | Role::TaskExecutor => true,
            Role::Writer
            | Role::Duplicator
            | Role::Transactor
            | Role::Observer
            | Role::Watcher
            | Role::Administrator
            | Role::Repeater
            | Role::Submitter
            | Role::Operator
            | Role::Archivist => false,
        }
    }

    /// Whether such a process can do with one node: whoever takes hints, and asks to be helped where they do not help.
    pub fn may_be_behind(self) -> bool {
        match self {
            Role::Candidate | Role::Caller | Role::Writer => true,
            Role::Node
            | Role::Duplicator
            | Role::Transactor
            | Role::Observer
            | Role::Watcher
            | Role::Administrator
            | Role::Ledger
            | Role::Repeater
            | Role::JobManager
            | Role::TaskExecutor
            | Role::Submitter
            | Role::Operator
            | Role::Archivist => false,
        }
    }

    /// Whether such a process writes keys under names, of which it says what became.
    pub fn writes(self) -> bool {
        match self {
            Role::Writer | Role::Duplicator | Role::Transactor => true,
            Role::Node
            | Role::Candidate
            | Role::Caller
            | Role::Observer
            | Role::Watcher
            | Role::Administrator
            | Role::Ledger
            | Role::Repeater
            | Role::JobManager
            | Role::TaskExecutor
            | Role::Submitter
            | Role::Operator
            | Role::Archivist => false,
        }
    }
}

/// One process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Who {
    /// What it does.
    pub role: Role,
    /// Which one, from 1.
    pub number: usize,
}

impl Who {
    /// A node of the store.
    pub fn node(number: usize) -> Who {
        Who { role: Role::Node, number }
    }

    /// Whether this is what it calls itself: `ROLE-NUMBER.START`, a slash and more perhaps.
    pub fn has_name(self, name: &str) -> bool {
        name.split_once('.').is_some_and(|(who, _)| who.parse() == Ok(self))
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.role.name(), self.number)
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Role, String> {
        ROLES.into_iter().find(|role| role.name() == name).ok_or_else(|| format!("no role '{name}'"))
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(name: &str) -> Result<Who, String> {
        let (role, number) = name.rsplit_once('-').ok_or_else(|| format!("no process '{name}'"))?;
        let number = number.parse().ok().filter(|number| *number > 0);
        Ok(Who { role: role.parse()?, number: number.ok_or_else(|| format!("no process '{name}'"))? })
    }
}

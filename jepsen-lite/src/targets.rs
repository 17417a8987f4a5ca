//! Where the processes of a run live, and what can be done to them there.

mod compose;
mod local;
mod namespaces;
mod own_disks;

use clap::ValueEnum;

pub(crate) use self::compose::{Compose, ENDPOINTS as COMPOSE_ENDPOINTS, SHAPE as COMPOSE_SHAPE};
pub(crate) use self::local::Local;
pub(crate) use self::namespaces::Namespaces;
pub(crate) use self::own_disks::{Kind as DiskKind, OwnDisks};

/// Where the processes of a run live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Target {
    /// Processes on this machine, behind the harness's own proxies. Needs no privileges.
    Local,
    /// Containers with nothing in them but the static binary. Needs a Docker engine and the image palisade:local.
    Compose,
    /// Processes in network namespaces of their own, with real packets lost. Needs root.
    Namespaces,
}

impl Target {
    pub(crate) const ALL: [Target; 3] = [Target::Local, Target::Compose, Target::Namespaces];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Target::Local => "local",
            Target::Compose => "compose",
            Target::Namespaces => "namespaces",
        }
    }
}

/// Which processes a run has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) nodes: usize,
    pub(crate) jobmanagers: usize,
    pub(crate) taskexecutors: usize,
}

pub(crate) fn node_name(id: usize) -> String {
    format!("node-{id}")
}

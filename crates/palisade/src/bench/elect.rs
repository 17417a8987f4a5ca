//! `palisade bench elect`: each caller campaigns in an election of its own, and resigns.

use std::sync::Arc;
use std::time::Duration;

use palisade_client::{CampaignOptions, OnDisconnect, Session, SessionOptions, Value};
use palisade_world::World;

use super::load::{Measured, Work, drive, kind};
use super::nodes::Nodes;
use super::record::Record;
use crate::cli::{Global, LoadArgs};
use crate::exit::Failure;
use crate::output;

pub(super) async fn run(args: LoadArgs, global: &Global, world: World) -> Result<(), Failure> {
    let record = Record::begin();
    let nodes = Nodes::of(args.own_cluster, global, &world).await?;
    let measured = measure(&args, &nodes, &world).await;
    nodes.stop().await;
    let measured = measured?;
    output::show(global.output, &record.document("elect", measured.document(&args)), || {
        measured.table("campaign + resign")
    });
    measured.verdict()
}

async fn measure(args: &LoadArgs, nodes: &Nodes, world: &World) -> Result<Measured, Failure> {
    let options = SessionOptions {
        ttl: Duration::from_secs(10),
        on_disconnect: OnDisconnect::KeepUntilTtl,
        ..SessionOptions::default()
    };
    let mut sessions = Vec::new();
    // One for each connection: callers of a process share its sessions.
    for client in nodes.clients(args.clients)? {
        sessions.push(client.open_session(options.clone()).await?);
    }
    drive(Arc::new(Elections { sessions }), args, world).await
}

struct Elections {
    sessions: Vec<Session>,
}

impl Work for Elections {
    async fn once(&self, caller: u32, _: u64) -> Result<(), String> {
        let session = &self.sessions[caller as usize % self.sessions.len()];
        let options = CampaignOptions {
            election: format!("bench-elect-{caller}"),
            candidate_id: format!("caller-{caller}"),
            value: Value::at("127.0.0.1:1"),
            priority: 0,
        };
        session.campaign(options).await.map_err(kind)?.resign().await.map_err(kind)
    }
}

//! An etcd server of the run's own, and the few calls that the control makes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tokio::process::{Child, Command};
use tonic::transport::Channel;

use crate::api::channel;
use crate::cli::Control;
use crate::processes::free_addresses;

#[allow(missing_docs, clippy::doc_markdown, unreachable_pub, dead_code)]
mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
#[allow(missing_docs, clippy::doc_markdown, unreachable_pub, dead_code)]
mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
#[allow(missing_docs, clippy::doc_markdown, unreachable_pub, dead_code)]
mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

use etcdserverpb::kv_client::KvClient;
use etcdserverpb::lease_client::LeaseClient;
use v3electionpb::election_client::ElectionClient;
use v3lockpb::lock_client::LockClient;

const SERVES_WITHIN: Duration = Duration::from_secs(20);
/// A waiter is answered within this, or the control has failed.
const WAITS: Duration = Duration::from_secs(20);
const NAME: &[u8] = b"control";

/// One server; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: String,
    version: String,
    _child: Child,
}

impl Server {
    pub(super) async fn start(program: &Path, dir: &Path) -> anyhow::Result<Server> {
        let version = Command::new(program).arg("--version").output().await;
        let version = version.with_context(|| format!("{} --version", program.display()))?;
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
        let addresses = free_addresses(2)?;
        let (client, peer) = (format!("http://{}", addresses[0]), format!("http://{}", addresses[1]));
        let log = std::fs::File::create(dir.join("etcd.log"))?;
        let child = Command::new(program)
            .args(["--name", "control", "--data-dir"])
            .arg(dir.join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("control={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .context("starting etcd")?;
        let server = Server { address: addresses[0].clone(), version, _child: child };
        let until = tokio::time::Instant::now() + SERVES_WITHIN;
        let request = etcdserverpb::RangeRequest { key: b"up".to_vec(), range_end: Vec::new() };
        while KvClient::new(channel(&server.address)?).range(request.clone()).await.is_err() {
            anyhow::ensure!(tokio::time::Instant::now() < until, "etcd did not serve within {SERVES_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client { channel: channel(&self.address)? })
    }
}

/// What was acquired.
#[derive(Debug)]
pub(super) enum Held {
    /// The key of the lock, and the revision of the answer.
    Lock(Vec<u8>, u64),
    Election(v3electionpb::LeaderKey, u64),
}

impl Held {
    /// The nearest thing to a token that etcd has.
    pub(super) fn token(&self) -> u64 {
        match self {
            Held::Lock(_, revision) | Held::Election(_, revision) => *revision,
        }
    }
}

/// A client of it.
#[derive(Debug)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    /// A lease.
    pub(super) async fn grant(&self, ttl: Duration) -> anyhow::Result<i64> {
        let request = etcdserverpb::LeaseGrantRequest { ttl: i64::try_from(ttl.as_secs())?, id: 0 };
        Ok(LeaseClient::new(self.channel.clone()).lease_grant(request).await?.into_inner().id)
    }

    /// Renews it once.
    pub(super) async fn keep_alive(&self, lease: i64) -> anyhow::Result<()> {
        let requests = tokio_stream::iter([etcdserverpb::LeaseKeepAliveRequest { id: lease }]);
        let mut answers = LeaseClient::new(self.channel.clone()).lease_keep_alive(requests).await?.into_inner();
        let answer = answers.message().await?.context("no answer")?;
        anyhow::ensure!(answer.ttl > 0, "the lease is gone");
        Ok(())
    }

    /// Waits until a lease is gone, and all that it held with it.
    pub(super) async fn until_gone(&self, lease: i64) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + WAITS;
        loop {
            let request = etcdserverpb::LeaseTimeToLiveRequest { id: lease };
            let left = LeaseClient::new(self.channel.clone()).lease_time_to_live(request).await?.into_inner();
            if left.ttl == -1 {
                return Ok(());
            }
            anyhow::ensure!(tokio::time::Instant::now() < until, "the lease did not end within {WAITS:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits in the line until it holds, or so it is told.
    pub(super) async fn acquire(&self, of: Control, lease: i64, value: &str) -> anyhow::Result<Held> {
        let revision = |header: Option<etcdserverpb::ResponseHeader>| header.map_or(0, |header| header.revision);
        match of {
            Control::Lock => {
                let request = v3lockpb::LockRequest { name: NAME.to_vec(), lease };
                let mut client = LockClient::new(self.channel.clone());
                let answer = tokio::time::timeout(WAITS, client.lock(request)).await??.into_inner();
                Ok(Held::Lock(answer.key, u64::try_from(revision(answer.header))?))
            }
            Control::Campaign => {
                let value = value.as_bytes().to_vec();
                let request = v3electionpb::CampaignRequest { name: NAME.to_vec(), lease, value };
                let mut client = ElectionClient::new(self.channel.clone());
                let answer = tokio::time::timeout(WAITS, client.campaign(request)).await??.into_inner();
                let leader = answer.leader.context("an answer without a leader")?;
                Ok(Held::Election(leader, u64::try_from(revision(answer.header))?))
            }
        }
    }

    pub(super) async fn release(&self, held: Held) -> anyhow::Result<()> {
        match held {
            Held::Lock(key, _) => {
                LockClient::new(self.channel.clone()).unlock(v3lockpb::UnlockRequest { key }).await?;
            }
            Held::Election(leader, _) => {
                let request = v3electionpb::ResignRequest { leader: Some(leader) };
                ElectionClient::new(self.channel.clone()).resign(request).await?;
            }
        }
        Ok(())
    }
}

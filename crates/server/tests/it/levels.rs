//! Programs of two versions in one cluster: it works while it is upgraded, the level is raised only when every node knows it, and there
//! is no way back after that. A node takes itself for one of another version by `NodeConfig::level`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use std::collections::BTreeMap;
use std::path::Path;

use palisade_client::{Client, ClientConfig, ErrorKind, PutOptions, SessionOptions};
use palisade_replica::{Restored, restored_head};
use palisade_server::backup::Backup;
use palisade_server::{Misfit, NodeConfig, NodeFailed};
use palisade_storage::{BackupFile, DataFolder, FileSnapshots, SnapshotStore, backup_file};
use palisade_wire::state::backup_head;

use crate::cluster::{Cluster, name};

const OLD: u32 = 1;
const NEW: u32 = 2;

fn client(cluster: &Cluster, nodes: impl IntoIterator<Item = u64>) -> Client {
    let endpoints = nodes.into_iter().map(name).collect();
    let config = ClientConfig { endpoints, request_timeout: std::time::Duration::from_secs(20) };
    Client::new(config, cluster.world.clone()).unwrap()
}

async fn start(cluster: &mut Cluster, id: u64, level: u32) {
    let config = NodeConfig { level, ..cluster.config(id) };
    let node = cluster.try_start(config, &cluster.folder(id)).await.unwrap_or_else(|error| panic!("{id}: {error}"));
    cluster.nodes.insert(id, node);
}

/// Puts a program of another version on a node's folder.
async fn change(cluster: &mut Cluster, id: u64, level: u32) {
    cluster.stop_node(id).await;
    cluster.until("its folder is free", async || cluster.is_free(id).then_some(())).await;
    start(cluster, id, level).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_two_versions_works_while_it_is_upgraded_and_there_is_no_way_back() {
    let mut cluster = Cluster::new(3, 91);
    for id in 1..=3 {
        start(&mut cluster, id, OLD).await;
    }
    cluster.leader().await;
    let (count, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
    let load = {
        let (client, count, stop) = (client(&cluster, 1..=3), Arc::clone(&count), Arc::clone(&stop));
        cluster.world.spawn("load", async move {
            let session = client.open_session(SessionOptions::default()).await.unwrap();
            while !stop.load(Ordering::Acquire) {
                let put = PutOptions::new(format!("k{}", count.load(Ordering::Acquire)), "v");
                client.put(PutOptions { session: Some(&session), ..put }).await.unwrap();
                count.fetch_add(1, Ordering::AcqRel);
            }
        })
    };
    let goes_on = async |cluster: &Cluster| {
        let seen = count.load(Ordering::Acquire);
        cluster.until("writes go on", async || (count.load(Ordering::Acquire) > seen + 20).then_some(())).await;
    };
    let operator = client(&cluster, 1..=3);
    goes_on(&cluster).await;
    let refused = operator.raise_level(Some(NEW)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Level, "{refused}");
    for id in 1..=3 {
        change(&mut cluster, id, NEW).await;
        cluster.leader().await;
        goes_on(&cluster).await;
        if id < 3 {
            let refused = operator.raise_level(Some(NEW)).await.unwrap_err();
            assert_eq!(refused.kind, ErrorKind::Level, "{refused}");
            assert!(
                refused.limit.contains("knows levels up to 1, not 2") || refused.limit.contains("does not say"),
                "{refused}"
            );
            // And back again, as long as nothing was raised.
            change(&mut cluster, id, OLD).await;
            change(&mut cluster, id, NEW).await;
            goes_on(&cluster).await;
        }
    }
    // One that is silent may be of any version.
    cluster.stop_node(3).await;
    cluster.leader().await;
    let refused = operator.raise_level(None).await.unwrap_err();
    assert!(refused.limit.contains("node 3 (node-3:7070) does not say which levels its program knows"), "{refused}");
    cluster.until("its folder is free", async || cluster.is_free(3).then_some(())).await;
    start(&mut cluster, 3, NEW).await;
    let raised = async || operator.raise_level(None).await.ok();
    assert_eq!(cluster.until("all answer", raised).await, (NEW, OLD));
    assert_eq!(operator.raise_level(Some(NEW)).await.unwrap(), (NEW, NEW), "said again");
    assert_eq!(operator.raise_level(Some(OLD)).await.unwrap_err().kind, ErrorKind::Level);
    goes_on(&cluster).await;

    // The way back: refused from what is on the disk, or by the others; the cluster goes on.
    let follower = cluster.followers(cluster.leader().await).await[0];
    cluster.until("it has applied it", async || (cluster.status(follower).await?.level == NEW).then_some(())).await;
    cluster.stop_node(follower).await;
    cluster.until("its folder is free", async || cluster.is_free(follower).then_some(())).await;
    let config = NodeConfig { level: OLD, ..cluster.config(follower) };
    let words = match cluster.try_start(config, &cluster.folder(follower)).await {
        Err(error) => error.to_string(),
        Ok(mut node) => match cluster.failure(&mut node).await {
            NodeFailed::Misfit(misfit) => misfit.to_string(),
            NodeFailed::Replica { why } => why,
            other => panic!("{other}"),
        },
    };
    assert!(words.contains("downgrade refused") && words.contains("level 2"), "{words}");
    goes_on(&cluster).await;
    cluster.until("its folder is free", async || cluster.is_free(follower).then_some(())).await;
    start(&mut cluster, follower, NEW).await;
    goes_on(&cluster).await;

    // A new node that is too old does not join.
    let added = operator.add_node(4, &name(4)).await.unwrap();
    assert_eq!(added.members.len(), 4);
    let joins = |level| NodeConfig { level, initial: Vec::new(), join: vec![name(1)], ..cluster.config(4) };
    let config = NodeConfig { advertise: name(4), listen: name(4), ..joins(OLD) };
    let mut node = cluster.try_start(config, &cluster.folder(4)).await.unwrap();
    let NodeFailed::Misfit(misfit) = cluster.failure(&mut node).await else { panic!("it does not join") };
    assert!(
        misfit.to_string().contains("the cluster is at level 2, and this program knows levels up to 1"),
        "{misfit}"
    );
    node.shutdown().await;
    stop.store(true, Ordering::Release);
    load.await.unwrap();
    cluster.stop_all().await;
}

/// Saves a backup of a cluster of one node that has a key, at the newer level.
async fn backup_of_the_newer_level(file: &Path) {
    let mut cluster = Cluster::new(1, 92);
    start(&mut cluster, 1, NEW).await;
    cluster.leader().await;
    let operator = client(&cluster, [1]);
    operator.put(PutOptions::new("k", "v")).await.unwrap();
    assert_eq!(operator.raise_level(None).await.unwrap(), (NEW, OLD));
    let mut backup = operator.backup().await.unwrap();
    let mut saving = BackupFile::create(file, &backup_head(&backup.encoded_head)).unwrap();
    while let Some(piece) = backup.next().await.unwrap() {
        saving.write(&piece).unwrap();
    }
    saving.save().unwrap();
    cluster.stop_all().await;
}

/// As a restore did that put no level into the folder's head.
fn restore_without_a_level(file: &Path, folder: &Path, restored: Restored) {
    let folder = DataFolder::begin_restore(folder, 7).unwrap();
    let mut draft = FileSnapshots::open(&folder).unwrap().begin(&restored_head(&restored)).unwrap();
    for piece in backup_file::open(file).unwrap().pieces() {
        draft.write(&piece.unwrap()).unwrap();
    }
    draft.save().unwrap();
    folder.restored().unwrap();
}

/// The snapshot of a folder, and its number.
fn kept(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let snapshots = std::fs::read_dir(folder.join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    snapshots.chain([folder.join("SNAPSHOT")]).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_program_leaves_a_folder_that_was_restored_from_a_newer_backup_as_it_is() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("b");
    backup_of_the_newer_level(&file).await;
    let saved = Backup::open_knowing(NEW, &file).unwrap();
    let words = Backup::open_knowing(OLD, &file).unwrap_err().to_string();
    assert!(words.contains("downgrade refused: this data was written at level 2"), "{words}");

    // The folder says what it holds: it does not start.
    let mut cluster = Cluster::new(1, 93);
    saved.restore(&cluster.folder(1), 7, 1_000).unwrap();
    let before = kept(&cluster.folder(1));
    let older = NodeConfig { level: OLD, ..cluster.config(1) };
    let words = match cluster.try_start(older, &cluster.folder(1)).await {
        Ok(_) => panic!("it starts"),
        Err(error) => error.to_string(),
    };
    assert!(words.starts_with("downgrade refused: the backup in this folder was written at level 2"), "{words}");
    assert_eq!(kept(&cluster.folder(1)), before);
    cluster.until("its folder is free", async || cluster.is_free(1).then_some(())).await;
    start(&mut cluster, 1, NEW).await;
    let get = async || client(&cluster, [1]).get(b"k".to_vec()).await.ok();
    cluster.until("it serves", async || get().await.and_then(|got| got.kv)).await;
    cluster.stop_all().await;

    // It does not: it stops where it was to form the cluster, and has replaced nothing.
    let mut cluster = Cluster::new(1, 94);
    let (bytes, crc32) = saved.written();
    let (id, seq) = (saved.state.cluster().unwrap().0, saved.state.seq().get());
    let restored = Restored { cluster: id, generation: 1_000, seq, bytes, crc32, level: 0 };
    restore_without_a_level(&file, &cluster.folder(1), restored);
    let before = kept(&cluster.folder(1));
    let older = NodeConfig { level: OLD, ..cluster.config(1) };
    let mut node = cluster.try_start(older, &cluster.folder(1)).await.unwrap();
    let failed = cluster.failure(&mut node).await;
    assert!(matches!(failed, NodeFailed::Misfit(Misfit::BackupLevel { level: NEW, known: OLD })), "{failed}");
    node.shutdown().await;
    assert_eq!(kept(&cluster.folder(1)), before);
    cluster.until("its folder is free", async || cluster.is_free(1).then_some(())).await;
    start(&mut cluster, 1, NEW).await;
    let get = async || client(&cluster, [1]).get(b"k".to_vec()).await.ok();
    cluster.until("it serves", async || get().await.and_then(|got| got.kv)).await;
    cluster.stop_all().await;
}

/// A program from before levels would stop at the command, which it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_level_that_is_there_already_is_answered_without_a_command() {
    let cluster = Cluster::start(1, 95).await;
    cluster.leader().await;
    let operator = client(&cluster, [1]);
    operator.put(PutOptions::new("k", "v")).await.unwrap();
    let applied = async || cluster.status(1).await.unwrap().header.unwrap().seq;
    let before = applied().await;
    assert_eq!(operator.raise_level(None).await.unwrap(), (OLD, OLD));
    assert_eq!(operator.raise_level(Some(OLD)).await.unwrap(), (OLD, OLD));
    assert_eq!(applied().await, before, "a command was written");
}

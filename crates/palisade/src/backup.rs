//! `palisade cluster snapshot …`: a backup out of a running cluster into a file, and out of a file into the folder of a new node.
//! The file is written and read piece by piece; what it is and what becomes of it, `client`, `storage` and `server` know.

use std::path::Path;
use std::time::Duration;

use palisade_client::{Backup, Client};
use palisade_server::backup::{Backup as Saved, RestoreError};
use palisade_storage::{BackupError, BackupFile, OpenError};
use palisade_wire::state::backup_head;
use palisade_world::World;
use serde_json::json;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output;

/// Between two lines about how far it is.
const TELL: Duration = Duration::from_secs(1);

pub(crate) async fn save(path: &Path, global: &Global, client: &Client) -> Result<(), Failure> {
    // Before the cluster is asked for anything.
    if std::fs::symlink_metadata(path).is_ok() {
        return Err(of_file(path, &BackupError::Exists { path: path.to_owned() }));
    }
    let mut backup = client.backup().await?;
    let header = backup.head.header.unwrap_or_default();
    let received = tokio::select! {
        received = receive(&mut backup, path, client.world()) => received?,
        // What was written is discarded.
        _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted()),
    };
    let (bytes, checksum) = received.written();
    received.save().map_err(|error| of_file(path, &error))?;
    let document = json!({
        "file": path.display().to_string(),
        "cluster_id": format!("{:016x}", header.cluster_id),
        "generation": header.generation,
        "seq": header.seq,
        "revision": header.revision,
        "bytes": bytes,
        "checksum": format!("{checksum:08x}"),
        "saved_unix_ms": backup.head.saved_unix_ms,
    });
    output::show(global.output, &document, || {
        format!(
            "saved {}: cluster {:016x}, generation {}, seq {}, revision {}, {bytes} bytes",
            path.display(),
            header.cluster_id,
            header.generation,
            header.seq,
            header.revision,
        )
    });
    Ok(())
}

/// Writes what comes, and says how far it is.
async fn receive(backup: &mut Backup, path: &Path, world: &World) -> Result<BackupFile, Failure> {
    let mut file =
        BackupFile::create(path, &backup_head(&backup.encoded_head)).map_err(|error| of_file(path, &error))?;
    let mut tell_at = world.now() + TELL;
    while let Some(piece) = backup.next().await? {
        // A large file is synced in steps: that waits for the disk.
        let written = world.blocking("writing a backup", move || file.write(&piece).map(|()| file)).await;
        file = written.map_err(|ended| Failure::failed(ended.to_string()))?.map_err(|error| of_file(path, &error))?;
        if world.now() >= tell_at {
            eprintln!("palisade: {} MiB received", file.written().0 >> 20);
            tell_at = world.now() + TELL;
        }
    }
    Ok(file)
}

pub(crate) async fn restore(
    path: &Path,
    data: &Path,
    asked: Option<u32>,
    global: &Global,
    world: &World,
) -> Result<(), Failure> {
    let (now_unix_ms, store_id) = (world.unix_ms(), world.random_u64());
    eprintln!("palisade: reading {}", path.display());
    let saved = open(path).map_err(|error| of_restore(path, data, &error))?;
    for warning in saved.warnings(asked, now_unix_ms) {
        eprintln!("palisade: warning: {warning}");
    }
    let generation = saved.generation(asked, now_unix_ms);
    let state = saved
        .begun(generation, now_unix_ms)
        .map_err(|error| Failure::usage("--generation", generation.to_string(), error.to_string()))?;
    eprintln!("palisade: restoring {} bytes into {}", saved.written().0, data.display());
    saved.restore(data, store_id, generation).map_err(|error| of_restore(path, data, &error))?;
    let header = saved.head.header.unwrap_or_default();
    let document = json!({
        "file": path.display().to_string(),
        "folder": data.display().to_string(),
        "cluster_id": format!("{:016x}", header.cluster_id),
        "generation": generation,
        "generation_before": header.generation,
        "level": state.level(),
        "seq": state.seq().get(),
        "revision": state.revision().get(),
        "keys": state.keys().count(),
        "bytes": saved.written().0,
        "saved_unix_ms": saved.head.saved_unix_ms,
    });
    output::show(global.output, &document, || {
        format!(
            "restored {} into {}: cluster {:016x}, generation {generation} (before: {}), revision {}, {} keys\n\
             start it with 'palisade server --initial' when the folders of all first nodes are restored",
            path.display(),
            data.display(),
            header.cluster_id,
            header.generation,
            state.revision(),
            state.keys().count(),
        )
    });
    Ok(())
}

#[cfg(not(feature = "planted"))]
fn open(path: &Path) -> Result<Saved, RestoreError> {
    Saved::open(path)
}

/// Also as a program of another version would.
#[cfg(feature = "planted")]
fn open(path: &Path) -> Result<Saved, RestoreError> {
    match crate::server::other_version() {
        Ok(Some(level)) => Saved::open_knowing(level, path),
        Ok(None) | Err(_) => Saved::open(path),
    }
}

fn of_file(path: &Path, error: &BackupError) -> Failure {
    match error {
        BackupError::Exists { .. } => {
            Failure::usage("FILE", path.display().to_string(), "it exists already, and a backup replaces nothing")
        }
        error => Failure::failed(error.to_string()),
    }
}

fn of_restore(path: &Path, data: &Path, error: &RestoreError) -> Failure {
    match error {
        RestoreError::File(error) => of_file(path, error),
        RestoreError::Folder(OpenError::NotEmpty { found, .. }) => {
            let why = format!("it is not empty ({found}); a backup is restored into a new folder");
            Failure::usage("--data", data.display().to_string(), why)
        }
        error => Failure::failed(error.to_string()),
    }
}

//! File systems of their own for the data of the store nodes: in memory and small, so that one can be filled; or ext4 on a loop
//! device, whose power can be cut by the file system's own shutdown call: what was not synced is gone then. Needs root.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::libc;
use nix::sys::statvfs::statvfs;

use crate::targets::node_name;

/// `EXT4_IOC_SHUTDOWN`, and its flag for "without writing the journal out".
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
static NO_LOG_FLUSH: u32 = 2;
/// Of a disk whose power can be cut; the file is sparse.
const LOOP_BYTES: u64 = 1 << 30;
/// What a full disk has left: a node takes no writes below 64 MiB, and stops below 16 MiB.
const LEFT: u64 = 40 << 20;
/// How often an unmount is tried: a process that was just killed may hold files for a moment.
const UNMOUNTS: u32 = 500;

/// What the file systems are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 200 MiB in memory.
    Small,
    /// ext4 on a loop device.
    Loop,
}

/// Mounted until dropped.
#[derive(Debug)]
pub(crate) struct OwnDisks {
    below: PathBuf,
    kind: Kind,
    nodes: usize,
}

impl OwnDisks {
    pub(crate) fn new(kind: Kind, nodes: usize, below: PathBuf) -> anyhow::Result<OwnDisks> {
        let disks = OwnDisks { below, kind, nodes };
        for id in 1..=nodes {
            let name = node_name(id);
            std::fs::create_dir_all(disks.path(&name))?;
            if kind == Kind::Loop {
                File::create(disks.image(&name))?.set_len(LOOP_BYTES)?;
                let image = disks.image(&name);
                run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"], &[&image])?;
            }
            disks.mount(&name)?;
        }
        Ok(disks)
    }

    pub(crate) fn below(&self) -> &Path {
        &self.below
    }

    fn path(&self, name: &str) -> PathBuf {
        self.below.join(name)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.below.join(format!("{name}.image"))
    }

    fn mount(&self, name: &str) -> anyhow::Result<()> {
        match self.kind {
            Kind::Small => run("mount", &["-t", "tmpfs", "-o", "size=200m", "tmpfs"], &[&self.path(name)]),
            // Without `commit` the file system writes its journal out by itself every five seconds, also what nobody synced.
            Kind::Loop => run("mount", &["-o", "loop,noatime,commit=300"], &[&self.image(name), &self.path(name)]),
        }
    }

    /// Cuts the power of a disk: whoever writes or syncs from here on is told of an error.
    pub(crate) fn cut(&self, name: &str) -> anyhow::Result<()> {
        if self.kind != Kind::Loop {
            bail!("the power of a disk in memory cannot be cut");
        }
        let root = File::open(self.path(name))?;
        // SAFETY: the call reads one u32 behind the pointer, and both the descriptor and the number live until it returns.
        #[allow(unsafe_code)]
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const NO_LOG_FLUSH) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("the shutdown call of ext4") }
    }

    /// Switches it on again. Nobody may have a file open on it.
    pub(crate) async fn power_on(&self, name: &str) -> anyhow::Result<()> {
        for _ in 0..UNMOUNTS {
            if run("umount", &[], &[&self.path(name)]).is_ok() {
                return self.mount(name);
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        run("umount", &[], &[&self.path(name)])
    }

    /// Takes the space that is left, down to what a node keeps in reserve for the log of others' writes: with less it stops, and is to
    /// be started again when there is space. `false` gives it back.
    pub(crate) fn fill(&self, name: &str, full: bool) -> anyhow::Result<()> {
        let filler = self.path(name).join("filler");
        if !full {
            return std::fs::remove_file(filler).context("removing the filler");
        }
        let mut file = File::create(filler)?;
        let block = vec![7; 64 << 10];
        while free(&self.path(name))? > LEFT {
            match std::io::Write::write_all(&mut file, &block) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
                Err(error) => return Err(error).context("filling a disk"),
            }
        }
        Ok(())
    }
}

/// Bytes that are free.
fn free(path: &Path) -> anyhow::Result<u64> {
    let stat = statvfs(path)?;
    Ok(stat.blocks_available() * stat.fragment_size())
}

impl OwnDisks {
    /// Unmounts and removes all of them. Again is no harm.
    pub(crate) fn down(&self) {
        for id in 1..=self.nodes {
            // A process that was killed a moment ago may still hold it: detached, it goes when that has ended.
            let _ = run("umount", &["-l"], &[&self.path(&node_name(id))]);
            let _ = std::fs::remove_file(self.image(&node_name(id)));
        }
    }
}

impl Drop for OwnDisks {
    fn drop(&mut self) {
        self.down();
    }
}

fn run(program: &str, args: &[&str], paths: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new(program).args(args).args(paths).output().with_context(|| format!("running {program}"))?;
    match output.status.success() {
        true => Ok(()),
        false => bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

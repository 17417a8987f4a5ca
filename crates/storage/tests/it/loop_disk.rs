//! A disk whose power can be cut: ext4 on a loop device, and the file system's own shutdown call. What was not synced is gone
//! afterwards: data, sizes, names. (It does not tear sectors, nor does it lie about a sync as some drives do.) Needs root.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc;

use crate::support::quick_dir;

/// Far more than a store of a few MiB grows to; the file is sparse.
const BYTES: u64 = 512 * 1024 * 1024;

/// `EXT4_IOC_SHUTDOWN`, and its flag for "without writing the journal out".
const SHUTDOWN: libc::c_ulong = 0x8004_587d;
static NO_LOG_FLUSH: u32 = 2;

/// How often an unmount is tried: a child that another test forks holds our files for the moment until it runs its program.
const UNMOUNTS: u32 = 10_000;

/// Where the file below the loop device lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Below {
    /// In memory where that can be had: a sync takes no time.
    Memory,
    /// On this machine's disk: a sync takes its time, and more is written between two.
    Disk,
}

/// What a thin disk has room for: far more than is written before it breaks.
const THIN: &str = "size=64m";

/// Mounted until it is dropped.
pub(crate) struct LoopDisk {
    dir: tempfile::TempDir,
    /// A file system of its own below the loop device, which can be filled.
    below: Option<PathBuf>,
}

impl LoopDisk {
    /// A new and empty one, or why there is none here.
    pub(crate) fn new(below: Below) -> Result<LoopDisk, String> {
        let dir = match below {
            Below::Memory => quick_dir(),
            Below::Disk => tempfile::tempdir().unwrap(),
        };
        LoopDisk { dir, below: None }.made(&[])
    }

    /// One that can break: what lies below the loop device has less room than it promises. Without a journal, for a file system that
    /// cannot write that one takes no more writes at all, and what is to be seen is one that goes on.
    pub(crate) fn thin() -> Result<LoopDisk, String> {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        run("mount", &["-t", "tmpfs", "-o", THIN, "tmpfs"], &[&below])?;
        LoopDisk { dir, below: Some(below) }.made(&["-O", "^has_journal"])
    }

    /// From here on whatever was never written before cannot be written: the device says that it has failed.
    pub(crate) fn break_it(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[7; 4096]).is_ok() {}
    }

    /// Takes writes again, as a disk does whose cable was loose.
    pub(crate) fn mend(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.below.as_ref().unwrap().join("filler")
    }

    fn made(self, options: &[&str]) -> Result<LoopDisk, String> {
        let disk = self;
        File::create(disk.image()).and_then(|file| file.set_len(BYTES)).unwrap();
        fs::create_dir(disk.path()).unwrap();
        // Nothing is left to do in the background, so that every round is like the others.
        let quiet = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        run("mkfs.ext4", &[&quiet, options].concat(), &[&disk.image()])?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// Cuts the power: whoever writes or syncs from here on is told of an error.
    pub(crate) fn cut(&self) {
        let root = File::open(self.path()).unwrap();
        // SAFETY: the call reads one u32 behind the pointer, and both the descriptor and the number live until it returns.
        #[allow(unsafe_code)]
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const NO_LOG_FLUSH) };
        assert_eq!(done, 0, "the file system shuts down: {}", std::io::Error::last_os_error());
    }

    /// Switches it on again. Nobody may have a file open on it.
    pub(crate) fn power_on(&self) {
        let tried = (0..UNMOUNTS).map(|_| run("umount", &[], &[&self.path()])).find(Result::is_ok);
        assert!(tried.is_some(), "{:?}", run("umount", &[], &[&self.path()]));
        self.mount().unwrap();
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop,noatime"], &[&self.image(), &self.path()])
    }

    fn image(&self) -> PathBuf {
        self.below.as_deref().unwrap_or(self.dir.path()).join("image")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        // A test that failed may still hold files: detach, so that nothing stays behind.
        let _ = run("umount", &["-l"], &[&self.path()]);
        if let Some(below) = &self.below {
            let _ = run("umount", &["-l"], &[below]);
        }
    }
}

fn run(program: &str, args: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output =
        Command::new(program).args(args).args(paths).output().map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

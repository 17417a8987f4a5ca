//! What every process says about itself, under the names that are usual: memory, files, processor time, and the disks of its
//! folders. Read when it is asked for; what cannot be read is left out.

use std::path::Path;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::statvfs::statvfs;
use nix::sys::time::{TimeVal, TimeValLike};
use palisade_metrics::{Kind, Page};

use super::Folder;

/// Files of a folder that are counted at most: a node's folder holds some tens.
const FILES: usize = 10_000;

pub(super) fn write(page: &mut Page, started_unix_ms: u64, folders: &[Folder]) {
    if let Some(memory) = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| memory(&status)) {
        page.gauge("process_resident_memory_bytes", "Memory in use.", memory.resident_bytes);
        page.gauge("process_virtual_memory_bytes", "Addresses in use.", memory.virtual_bytes);
        page.gauge("process_threads", "Threads.", memory.threads);
    }
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let mut cpu = page.family("process_cpu_seconds_total", Kind::Counter, "Processor time used.");
        cpu.sample(&[], seconds(usage.user_time()) + seconds(usage.system_time()));
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is this look.
        page.gauge("process_open_fds", "Open files and connections.", open.count().saturating_sub(1));
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        page.gauge("process_max_fds", "How many may be open.", soft);
    }
    #[allow(clippy::cast_precision_loss)] // milliseconds of this era are exact
    let started = started_unix_ms as f64 / 1e3;
    page.gauge("process_start_time_seconds", "When it started, in seconds since 1970.", started);
    disks(page, folders);
}

#[allow(clippy::cast_precision_loss)] // of processor time, beyond what anybody reads
fn seconds(span: TimeVal) -> f64 {
    span.num_microseconds() as f64 / 1e6
}

fn disks(page: &mut Page, folders: &[Folder]) {
    let help = "Bytes that this process may still write where the folder lies.";
    let mut free = page.family("palisade_disk_free_bytes", Kind::Gauge, help);
    for folder in folders {
        if let Ok(stat) = statvfs(&folder.path) {
            free.sample(&[("folder", folder.name)], stat.blocks_available().saturating_mul(stat.fragment_size()));
        }
    }
    let mut used = page.family("palisade_folder_bytes", Kind::Gauge, "Bytes that the folder takes on its disk.");
    for folder in folders.iter().filter(|folder| folder.walk) {
        let mut left = FILES;
        used.sample(&[("folder", folder.name)], bytes_below(&folder.path, &mut left));
    }
}

/// Blocks of all files below a folder; links are not followed, and what vanishes meanwhile is not counted.
fn bytes_below(path: &Path, left: &mut usize) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let mut bytes = 0;
    for entry in entries.flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { bytes_below(&entry.path(), left) } else { meta.blocks() * 512 };
    }
    bytes
}

/// From `/proc/self/status`.
#[derive(PartialEq, Eq, Debug)]
struct Memory {
    resident_bytes: u64,
    virtual_bytes: u64,
    threads: u64,
}

fn memory(status: &str) -> Option<Memory> {
    let number = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory {
        resident_bytes: number("VmRSS:")? << 10,
        virtual_bytes: number("VmSize:")? << 10,
        threads: number("Threads:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_in_bytes() {
        let status = "Name:\ta VmRSS: 1 b\nVmSize:\t  100 kB\nVmRSS:\t   40 kB\nThreads:\t7\n";
        let memory = memory(status).expect("it is whole");
        assert_eq!(memory, Memory { resident_bytes: 40_960, virtual_bytes: 102_400, threads: 7 });
        assert_eq!(super::memory("Name: a"), None);
    }

    #[test]
    fn a_folder_is_as_large_as_its_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 100_000]).unwrap();
        let bytes = bytes_below(dir.path(), &mut 100);
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert_eq!(bytes_below(dir.path(), &mut 0), 0);
    }
}

//! What figures are kept with, so that they can be compared: the commit, the machine and how busy it was, the command.

use serde_json::{Map, Value, json};

/// What was true before the measurement began.
pub(super) struct Record {
    load_before: f64,
}

impl Record {
    pub(super) fn begin() -> Record {
        Record { load_before: load() }
    }

    /// The document to keep: `figures` with what they were measured on.
    pub(super) fn document(&self, what: &str, figures: Value) -> Value {
        use crate::build_info::{COMMIT, VERSION};
        let mut document = Map::new();
        document.insert("what".into(), what.into());
        document.insert("version".into(), VERSION.into());
        document.insert("commit".into(), COMMIT.into());
        document.insert("command".into(), command().into());
        document.insert("machine".into(), self.machine());
        if let Value::Object(figures) = figures {
            document.extend(figures);
        }
        Value::Object(document)
    }

    fn machine(&self) -> Value {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        json!({
            "cpu": field("/proc/cpuinfo", "model name"),
            "cores": cores,
            "memory_mb": field("/proc/meminfo", "MemTotal").split(' ').next().and_then(|kb| kb.parse::<u64>().ok()).map(|kb| kb / 1024),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "load_before": self.load_before,
            "load_after": load(),
        })
    }
}

/// As it was typed, without the path of the program.
fn command() -> String {
    std::iter::once("palisade".to_owned()).chain(std::env::args().skip(1)).collect::<Vec<_>>().join(" ")
}

/// Processes that wanted to run, over the last minute.
fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The first "name : value" of a file.
fn field(path: &str, name: &str) -> String {
    let text = read(path);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    value.unwrap_or_default().trim().to_owned()
}

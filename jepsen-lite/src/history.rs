//! The history: JSON lines, append-only, one record for each invocation and one for its completion.
//!
//! `ok`: it happened. `fail`: it surely had no effect. `info`: nobody knows; that process never acts again under its id.
//! Never refined without proof.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::RunClock;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Type {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One line. What does not apply is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Who acts. A number is never used again after `info`; the nemesis is `nemesis`.
    pub(crate) process: String,
    #[serde(rename = "type")]
    pub(crate) kind: Type,
    /// `campaign`, `elected`, `write`, `read`, `kill`, `start`.
    pub(crate) f: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) value: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) election: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seq: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) revision: Option<u64>,
    /// Nanoseconds of the harness's one clock.
    #[serde(default)]
    pub(crate) time_ns: u64,
}

impl Record {
    pub(crate) fn new(process: impl Into<String>, kind: Type, f: &str) -> Record {
        Record {
            process: process.into(),
            kind,
            f: f.to_owned(),
            key: None,
            value: Value::Null,
            election: None,
            token: None,
            seq: None,
            revision: None,
            time_ns: 0,
        }
    }
}

/// Appends records to a file, stamped with the run's clock, in the order of their stamps.
#[derive(Clone)]
pub(crate) struct Recorder {
    clock: RunClock,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    file: std::io::BufWriter<std::fs::File>,
    records: Vec<Record>,
}

impl Recorder {
    pub(crate) fn create(path: &Path, clock: RunClock) -> anyhow::Result<Recorder> {
        let file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Recorder {
            clock,
            inner: Arc::new(Mutex::new(Inner { file: std::io::BufWriter::new(file), records: Vec::new() })),
        })
    }

    pub(crate) fn record(&self, mut record: Record) {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Stamped under the lock: the order of the lines is the order of the stamps.
        record.time_ns = self.clock.now_ns();
        let line = serde_json::to_string(&record).expect("a record is plain data");
        writeln!(inner.file, "{line}").expect("the history must be kept, or the run is worth nothing");
        inner.records.push(record);
    }

    /// Everything so far, flushed to the file as well.
    pub(crate) fn finish(&self) -> anyhow::Result<Vec<Record>> {
        let mut inner = self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        inner.file.flush().context("flushing the history")?;
        Ok(inner.records.clone())
    }
}

/// Reads a history back.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Record>> {
    let file = std::fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let lines = BufReader::new(file).lines().enumerate();
    lines
        .map(|(at, line)| {
            serde_json::from_str(&line?).with_context(|| format!("{}: line {} is not a record", path.display(), at + 1))
        })
        .collect()
}

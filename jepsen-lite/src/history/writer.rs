//! Appends records to a file.
//!
//! The time is stamped under the lock, so the order of the lines is the order of the stamps. What is not yet in the file is bounded
//! ([`BUFFER`]); a full buffer is written by whoever filled it. The history is never kept in memory: what is judged is what was
//! written, read back. A record that is not whole, or a write that fails, is kept as the run's first error and fails
//! [`Recorder::finish`]: a run whose history has a hole is worth nothing.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Record;
use crate::clock::RunClock;

/// Bytes that wait for the file at most: some hundred lines, so that a harness that is killed loses little.
const BUFFER: usize = 64 * 1024;

/// Stamps records with the run's clock and appends them. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Recorder {
    clock: RunClock,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    records: u64,
    error: Option<io::Error>,
}

impl Recorder {
    /// Makes the file; it must not be there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path, clock: RunClock) -> io::Result<Recorder> {
        let file = BufWriter::with_capacity(BUFFER, File::create_new(path)?);
        Ok(Recorder { clock, inner: Arc::new(Mutex::new(Inner { file, records: 0, error: None })) })
    }

    /// The clock that stamps the records.
    pub fn clock(&self) -> RunClock {
        self.clock
    }

    /// Appends a record and gives the time that it was stamped with. Call it *before* an operation is sent and *after* its answer
    /// has come, never the other way round: operations would look shorter than they were, and good histories bad.
    pub fn record(&self, mut record: Record) -> u64 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        record.time_ns = self.clock.now_ns();
        let time = record.time_ns;
        if let Err(error) = inner.append(&record)
            && inner.error.is_none()
        {
            inner.error = Some(error);
        }
        time
    }

    /// Writes what waits and syncs the file; gives the number of records. The recorder can be used on.
    ///
    /// # Errors
    /// The first error since it was created: a record that was not whole (its `f` and what it lacks), or what the file system said.
    pub fn finish(&self) -> io::Result<u64> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = inner.error.take() {
            return Err(error);
        }
        inner.file.flush()?;
        inner.file.get_ref().sync_all()?;
        Ok(inner.records)
    }
}

impl Inner {
    fn append(&mut self, record: &Record) -> io::Result<()> {
        record.check().map_err(|breach| io::Error::other(format!("{}: {breach}", record.process)))?;
        let line = serde_json::to_string(record)?;
        self.records += 1;
        writeln!(self.file, "{line}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Type, f, read};
    use super::*;

    #[test]
    fn what_is_written_is_read_back_in_the_order_of_its_stamps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let recorder = Recorder::create(&path, RunClock::start()).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let recorder = recorder.clone();
                std::thread::spawn(move || {
                    for at in 0..500 {
                        let mut write = Record::new(format!("{thread}"), Type::Invoke, f::WRITE);
                        (write.key, write.value) = (Some("r".into()), (thread * 1000 + at).into());
                        recorder.record(write.clone());
                        recorder.record(Record { seq: Some(at), ..write.ended(Type::Ok) });
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(recorder.finish().unwrap(), 4000);
        let history = read(&path).unwrap();
        assert_eq!(history.records().len(), 4000);
        assert!(history.records().is_sorted_by_key(|record| record.time_ns));
        assert_eq!(history.ops().len(), 2000);
    }

    #[test]
    fn a_record_that_is_not_whole_fails_the_end_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::create(&dir.path().join("history.jsonl"), RunClock::start()).unwrap();
        recorder.record(Record::new("1", Type::Invoke, f::WRITE));
        assert!(recorder.finish().unwrap_err().to_string().contains("`key`"));
    }

    #[test]
    fn a_history_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let _first = Recorder::create(&path, RunClock::start()).unwrap();
        assert_eq!(Recorder::create(&path, RunClock::start()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}

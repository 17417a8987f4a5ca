//! Reads a history back. A line that is not a whole record is refused with its number: a checker must not guess.

use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::{Breach, History, Record};

/// A longer line is refused before it is parsed. The longest that the harness writes are counts of a job's words.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// Why a history cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("reading the history: {0}")]
    Io(#[from] io::Error),
    /// A line is not JSON, or not of the fields that HISTORY.md names.
    #[error("line {line} is not a record: {error}")]
    NotARecord {
        /// Its number, from 1.
        line: usize,
        /// What the parser says.
        error: serde_json::Error,
    },
    /// A line lacks what its `f` needs.
    #[error("line {line} is not whole: {breach}")]
    NotWhole {
        /// Its number, from 1.
        line: usize,
        /// What it lacks.
        breach: Breach,
    },
    /// The line before it was stamped later.
    #[error(
        "line {line} was stamped {time_ns} ns, before the line above it ({before_ns} ns): a history is in the order of its one clock"
    )]
    OutOfOrder {
        /// Its number, from 1.
        line: usize,
        /// Its stamp.
        time_ns: u64,
        /// That of the line above.
        before_ns: u64,
    },
    /// A line is longer than any that the harness writes.
    #[error("line {line} is longer than {MAX_LINE} bytes")]
    TooLong {
        /// Its number, from 1.
        line: usize,
    },
}

/// Reads a history from a file.
///
/// # Errors
/// The first line that is not a whole record, with its number.
pub fn read(path: &Path) -> Result<History, ReadError> {
    read_lines(BufReader::new(std::fs::File::open(path)?))
}

/// The same from anything that has lines. Empty lines and lines that begin with `//` are passed over: hand-written histories in
/// `testdata` explain themselves.
///
/// # Errors
/// As for [`read`].
pub fn read_lines(mut input: impl BufRead) -> Result<History, ReadError> {
    let mut records = Vec::new();
    let mut before_ns = 0;
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let length = io::Read::take(&mut input, MAX_LINE + 1).read_until(b'\n', &mut text)?;
        if length == 0 {
            break;
        }
        if length as u64 > MAX_LINE {
            return Err(ReadError::TooLong { line });
        }
        if text.trim_ascii().is_empty() || text.starts_with(b"//") {
            continue;
        }
        let record: Record = serde_json::from_slice(&text).map_err(|error| ReadError::NotARecord { line, error })?;
        record.check().map_err(|breach| ReadError::NotWhole { line, breach })?;
        if record.time_ns < before_ns {
            return Err(ReadError::OutOfOrder { line, time_ns: record.time_ns, before_ns });
        }
        before_ns = record.time_ns;
        records.push(record);
    }
    Ok(History::new(records))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        read_lines(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_malformed_line_is_refused_with_its_number() {
        let good = r#"{"process":"1","type":"invoke","f":"read","key":"r","time_ns":1}"#;
        assert!(refused(&format!("{good}\n{{\"process\":\"1\"\n")).starts_with("line 2 is not a record"));
        let typo = good.replace("\"key\"", "\"kye\"");
        assert!(
            refused(&format!("// a comment\n\n{typo}\n")).starts_with("line 3 is not a record: unknown field `kye`")
        );
        let without = good.replace("\"key\":\"r\",", "");
        assert!(refused(&without).starts_with("line 1 is not whole"));
        let earlier = good.replace("\"time_ns\":1", "\"time_ns\":0");
        assert!(refused(&format!("{good}\n{earlier}\n")).starts_with("line 2 was stamped"));
        assert!(refused(&good.replace("invoke", "perhaps")).starts_with("line 1 is not a record"));
        assert!(refused(&good.replace("read", "raed")).starts_with("line 1 is not whole"));
    }

    #[test]
    fn a_torn_last_line_is_refused_as_well() {
        let good = r#"{"process":"1","type":"invoke","f":"read","key":"r","time_ns":1}"#;
        assert!(refused(&format!("{good}\n{}", &good[..30])).starts_with("line 2 is not a record"));
        assert_eq!(read_lines(good.as_bytes()).unwrap().records().len(), 1, "without its newline it is still whole");
    }
}

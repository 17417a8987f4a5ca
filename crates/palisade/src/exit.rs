//! Exit codes and the one shape of an error: what is known about the outcome, what was wrong, what to do next.

use std::process::ExitCode;

use palisade_client as client;
use serde_json::json;

use crate::output::Format;

/// A check or a job failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// Refused by the store: surely not applied.
pub(crate) const REFUSED: u8 = 3;
/// The outcome is unknown.
pub(crate) const UNKNOWN: u8 = 4;
/// No store leader could be reached.
pub(crate) const UNREACHABLE: u8 = 5;
/// Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command did not succeed.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) kind: String,
    /// `not_applied`, `unknown`, or empty where no write was meant.
    pub(crate) outcome: &'static str,
    pub(crate) message: String,
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) limit: String,
    pub(crate) hint: String,
}

impl Failure {
    /// A check or a job failed.
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure { code: FAILED, kind: "failed".into(), message: message.into(), ..Failure::default() }
    }

    /// The command line is wrong in a way that its parser cannot see.
    pub(crate) fn usage(field: &str, value: impl Into<String>, limit: impl Into<String>) -> Failure {
        let (value, limit) = (value.into(), limit.into());
        Failure {
            code: USAGE,
            kind: "usage".into(),
            outcome: "not_applied",
            message: format!("{}: '{value}': {limit}", crate::settings::origin(field)),
            field: field.into(),
            value,
            limit,
            ..Failure::default()
        }
    }

    /// Something asked for is not there.
    pub(crate) fn absent(kind: &str, message: impl Into<String>) -> Failure {
        Failure {
            code: REFUSED,
            kind: kind.into(),
            outcome: "not_applied",
            message: message.into(),
            ..Failure::default()
        }
    }

    /// Ctrl-C.
    pub(crate) fn interrupted() -> Failure {
        Failure { code: INTERRUPTED, kind: "interrupted".into(), message: "interrupted".into(), ..Failure::default() }
    }

    /// A failure whose only content is an exit code (of a child, say).
    pub(crate) fn silent(code: u8) -> Failure {
        Failure { code, ..Failure::default() }
    }

    pub(crate) fn with_code(mut self, code: u8) -> Failure {
        self.code = code;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = hint.into();
        self
    }

    /// Prints the error to stderr, as JSON where the output is JSON, and gives the exit code.
    pub(crate) fn report(self, format: Option<Format>) -> ExitCode {
        if !self.message.is_empty() {
            if matches!(format, Some(Format::Json | Format::Jsonl)) {
                let mut error = json!({ "kind": self.kind, "message": self.message });
                let fields = [
                    ("outcome", self.outcome),
                    ("field", &self.field),
                    ("value", &self.value),
                    ("limit", &self.limit),
                    ("hint", &self.hint),
                ];
                for (name, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
                    error[name] = text.into();
                }
                eprintln!("{}", json!({ "error": error }));
            } else {
                eprintln!("palisade: {}", self.message);
                if self.outcome == "unknown" {
                    eprintln!("  the outcome is unknown: it may have been applied, now or later");
                }
                if !self.hint.is_empty() {
                    eprintln!("  {}", self.hint);
                }
            }
        }
        ExitCode::from(self.code)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Failure {
        let unknown = error.outcome == client::Outcome::Unknown;
        let code = match error.kind {
            _ if unknown => UNKNOWN,
            client::ErrorKind::NoStoreLeader | client::ErrorKind::NotStoreLeader => UNREACHABLE,
            _ => REFUSED,
        };
        let kind = format!("{:?}", error.kind).chars().fold(String::new(), |mut out, c| {
            if c.is_ascii_uppercase() && !out.is_empty() {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
            out
        });
        Failure {
            code,
            kind,
            outcome: if unknown { "unknown" } else { "not_applied" },
            message: error.to_string(),
            field: error.field,
            value: error.value,
            limit: error.limit,
            hint: match error.kind {
                // The store cannot know how a person forces it.
                client::ErrorKind::HolderKeepsUntilTtl => format!("{}: --force", error.hint),
                _ => error.hint,
            },
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::failed(error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::failed(format!("{error:#}"))
    }
}

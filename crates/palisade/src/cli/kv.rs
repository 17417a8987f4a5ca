//! `palisade kv …`: what can be asked for, with its help text.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::duration;

#[derive(Subcommand, Debug)]
pub(crate) enum KvCommand {
    /// Writes a key; `-` reads the value from stdin.
    #[command(after_help = "Examples:\n  palisade kv put config/rate 100\n  \
palisade kv put billing/progress 42 --fence \"$PALISADE_FENCE\"\n  palisade kv put blob - < file")]
    Put {
        /// The key.
        key: String,
        /// The value, or - for stdin.
        value: String,
        #[command(flatten)]
        fence: FenceArg,
        /// Remove the key when this session ends.
        #[arg(long, value_name = "ID")]
        session: Option<u64>,
        /// Show what was there before.
        #[arg(long)]
        prev: bool,
    },
    /// Reads keys; the raw value of a single one, unless --output is given.
    Get(GetArgs),
    /// Deletes keys; deleting nothing is no error.
    #[command(after_help = "Examples:\n  palisade kv delete config/rate --prev\n  palisade kv delete config/ --prefix")]
    Delete {
        /// The key.
        key: String,
        #[command(flatten)]
        many: ManyArgs,
        #[command(flatten)]
        fence: FenceArg,
        /// Show what was there before.
        #[arg(long)]
        prev: bool,
    },
    /// Does one of two lists of operations, whole or not at all; exit 3 if a condition does not hold.
    #[command(after_help = TXN_HELP)]
    Txn {
        /// A file with the transaction as JSON, or - for stdin.
        file: String,
        #[command(flatten)]
        fence: FenceArg,
    },
    /// Prints every change of keys until Ctrl-C; goes on by itself when the store leader dies.
    Watch(WatchArgs),
    /// Forgets the past of keys before a revision.
    #[command(after_help = "Example:\n  palisade kv compact 1207")]
    Compact {
        /// The first revision that can still be read and watched.
        revision: u64,
    },
}

const TXN_HELP: &str = r#"Example: takes the key `lock` for a session if nobody has it, else says who does.
  {
    "compare": [{"key": "lock", "version": 0}],
    "success": [{"put": {"key": "lock", "value": "me", "session": 42}}],
    "failure": [{"get": {"key": "lock"}}]
  }

"compare": conditions that must all hold for "success" to be done, else "failure" is done. Each has "key", how it is to stand
  ("is": "equal" (the default), "not_equal", "greater", "less"), and one of "value", "version", "create_revision",
  "mod_revision", "session" (0: none). A key that is not there has version 0.
"success", "failure": operations, in order:
  {"put": {"key", "value" or "keep_value": true, "session" or "keep_session": true, "prev"}}
  {"delete": {"key", "prev"}}
  {"get": {"key", "rev", "limit", "sort", "descending", "keys_only", "count"}}
  {"txn": {"compare", "success", "failure"}}
"fence": "ELECTION:TOKEN" in a transaction or in a put or delete refuses the whole if it is stale.
Wherever there is "key": "prefix": true, "from_key": true or "to" means more than one (not in a put); bytes that are not
UTF-8 are written as "key_base64", "to_base64" and "value_base64"."#;

#[derive(Args, Debug, Clone)]
pub(crate) struct FenceArg {
    /// Only if ELECTION's current token is TOKEN.
    #[arg(long, value_name = "ELECTION:TOKEN")]
    pub(crate) fence: Option<String>,
}

/// More than one key.
#[derive(Args, Debug, Clone)]
pub(crate) struct ManyArgs {
    /// All keys that begin with KEY; with an empty one: all.
    #[arg(long)]
    pub(crate) prefix: bool,
    /// KEY and all after it.
    #[arg(long, conflicts_with = "prefix")]
    pub(crate) from_key: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "What one answer of the store cannot hold is read in several, all as of one revision.\n\nExamples:\n  \
palisade kv get config/rate\n  palisade kv get config/ --prefix --output json\n  \
palisade kv get '' --prefix --sort mod_revision --descending --limit 10\n  \
palisade kv get config/ --prefix --rev 1207 --keys-only"
)]
pub(crate) struct GetArgs {
    /// The key.
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) many: ManyArgs,
    /// As it was after this revision.
    #[arg(long, value_name = "N")]
    pub(crate) rev: Option<u64>,
    /// At most so many keys.
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// In this order.
    #[arg(long, value_enum, value_name = "FIELD")]
    pub(crate) sort: Option<Sort>,
    /// The largest first.
    #[arg(long)]
    pub(crate) descending: bool,
    /// Without values.
    #[arg(long)]
    pub(crate) keys_only: bool,
    /// Only how many there are.
    #[arg(long, conflicts_with = "keys_only")]
    pub(crate) count: bool,
    /// From whichever node answers, as it has applied: it may be behind. Also without a store leader.
    #[arg(long)]
    pub(crate) serializable: bool,
}

/// What to sort by.
#[derive(Clone, Copy, Debug, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    Key,
    Version,
    #[value(name = "create_revision", alias = "create-revision")]
    CreateRevision,
    #[value(name = "mod_revision", alias = "mod-revision")]
    ModRevision,
    Value,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Example: every change after a `palisade kv get config/ --prefix --output json` that said \"revision\": 1207.\n  \
palisade kv watch config/ --prefix --from 1208 --output jsonl"
)]
pub(crate) struct WatchArgs {
    /// The key.
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) many: ManyArgs,
    /// From this revision on, itself included; by default what comes from now on. Exit 3 if it was compacted.
    #[arg(long, value_name = "REV")]
    pub(crate) from: Option<u64>,
    /// Show what was there before.
    #[arg(long)]
    pub(crate) prev: bool,
    /// Say how far it has got when nothing has changed for so long; by default one minute.
    #[arg(long, value_parser = duration, value_name = "D")]
    pub(crate) progress: Option<Duration>,
}

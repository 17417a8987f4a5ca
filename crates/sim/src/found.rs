//! Plans that once found something in the product, by name. They are run for ever.
//!
//! A file `found/NAME.plan` begins with a comment that says what it found.

use crate::Plan;

macro_rules! kept {
    ($name:literal) => {
        ($name, include_str!(concat!("../found/", $name, ".plan")))
    };
}

/// Every kept plan: its name and its text.
pub const ALL: &[(&str, &str)] =
    &[kept!("failed-disk-applies-less"), kept!("storage-folder-not-synced"), kept!("slot-kept-for-a-job-that-is-over")];

/// What to type to see a plan again.
pub fn replay_command(plan: &Plan) -> String {
    let kept = ALL.iter().find(|(_, text)| text.parse().as_ref() == Ok(plan));
    let what = kept.map_or_else(|| plan.seed.to_string(), |(name, _)| format!("--plan {name}"));
    format!("replay with: cargo run -p palisade-sim -- replay {what}")
}

//! Plans that once found something in the product, by name. They are run for ever.
//!
//! A file `found/NAME.plan` begins with a comment that says what it found.

macro_rules! kept {
    ($name:literal) => {
        ($name, include_str!(concat!("../found/", $name, ".plan")))
    };
}

/// Every kept plan: its name and its text.
pub const ALL: &[(&str, &str)] = &[kept!("failed-disk-applies-less"), kept!("storage-folder-not-synced")];

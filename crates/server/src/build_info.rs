//! Which program this is. The one place where version and commit are kept; `build.rs` stamps the commit.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from; empty if that was not known.
pub const COMMIT: &str = env!("PALISADE_COMMIT");

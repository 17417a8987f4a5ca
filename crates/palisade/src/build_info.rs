//! Which program this is. `build/commit.rs` stamps the commit.

/// The version of the package.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from; empty if that was not known.
pub(crate) const COMMIT: &str = env!("PALISADE_COMMIT");

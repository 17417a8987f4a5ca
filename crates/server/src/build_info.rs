//! Which library this is. The commit is known to programs only (`NodeConfig::commit`), so that a new one builds no library again.

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

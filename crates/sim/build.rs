//! Generates the gateway of the simulation's own service, as a user's build script would, and stamps the commit.

use std::path::Path;

#[path = "../palisade/build/commit.rs"]
mod commit;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    commit::stamp(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    palisade_rpc_build::compile(&["ledger.proto"], &[concat!(env!("CARGO_MANIFEST_DIR"), "/proto")])?;
    Ok(())
}

//! Generates the gateway of the simulation's own service, as a user's build script would.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    palisade_rpc_build::compile(&["ledger.proto"], &[concat!(env!("CARGO_MANIFEST_DIR"), "/proto")])?;
    Ok(())
}

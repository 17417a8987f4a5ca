//! Generates the gateway and the plain service that `palisade bench rpc` compares.

use std::path::Path;

fn main() -> Result<(), palisade_rpc_build::CompileError> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    palisade_rpc_build::Builder::new()
        .watch(root.join("palisade/bench"))
        .compile(&[root.join("palisade/bench/v1/echo.proto")], &[root])
}

//! Generates the gateway and the plain service that `palisade bench rpc` compares, and stamps the commit.

use std::path::Path;

mod commit;

fn main() -> Result<(), palisade_rpc_build::CompileError> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    commit::stamp(&root);
    let proto = root.join("proto");
    palisade_rpc_build::Builder::new()
        .watch(proto.join("palisade/bench"))
        .compile(&[proto.join("palisade/bench/v1/echo.proto")], &[proto])
}

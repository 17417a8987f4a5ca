//! Generates the gateways and the data exchange from `proto/palisade/runtime/v1`.

use std::path::Path;

fn main() -> Result<(), palisade_rpc_build::CompileError> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = ["common", "dispatcher", "resource_manager", "job_master", "task_executor", "data", "introspection"]
        .map(|name| root.join(format!("palisade/runtime/v1/{name}.proto")));
    palisade_rpc_build::compile(&files, &[root])
}

//! Generates the public APIs from their .proto files (no protoc): the store's, what TaskExecutors answer, and what of etcd's the
//! control runs need. Notes the commit that is built.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.join("..").join("proto");
    let store = ["common", "session", "election", "kv", "watch", "cluster"]
        .map(|name| root.join(format!("palisade/coord/v1/{name}.proto")));
    generate(&store, &root)?;
    let envelope = [root.join("palisade/rpc/v1/envelope.proto")];
    generate(&envelope, &root)?;
    let worker =
        ["common", "task_executor", "introspection"].map(|name| root.join(format!("palisade/runtime/v1/{name}.proto")));
    generate(&worker, &root)?;
    let own = here.join("proto");
    generate(&["etcd", "election", "lock"].map(|name| own.join(format!("{name}.proto"))), &own)?;
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    let commit = Command::new("git").args(["rev-parse", "HEAD"]).output().ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    println!("cargo::rustc-env=JEPSEN_LITE_COMMIT={commit}");
    Ok(())
}

fn generate(files: &[PathBuf], root: &Path) -> Result<(), Box<dyn std::error::Error>> {
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}

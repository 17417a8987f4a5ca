//! Compiles the envelope, and the gateways of this crate's own tests as a user's build script would.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.join("palisade/rpc").display());
    let files = ["palisade/rpc/v1/envelope.proto", "palisade/rpc/v1/told.proto"].map(|file| root.join(file));
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("envelope.bin"), compiler.encode_file_descriptor_set())?;
    // Payloads are cut out of the buffer that came off the socket, not copied.
    tonic_prost_build::configure().bytes(".").compile_fds(compiler.file_descriptor_set())?;

    // The example of the documentation, as a user's own build script would.
    palisade_rpc_build::compile(&["shop.proto"], &[concat!(env!("CARGO_MANIFEST_DIR"), "/examples/proto")])?;

    palisade_rpc_build::Builder::new()
        .descriptor_file("test_descriptors.bin")
        .compile(&["counter.proto", "office.proto"], &[concat!(env!("CARGO_MANIFEST_DIR"), "/tests/proto")])?;
    // The runtime's gateways too: the table of fencing is asserted for every method that there is.
    let runtime = root.join("palisade/runtime/v1");
    let entries = std::fs::read_dir(&runtime)?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    files.sort();
    palisade_rpc_build::Builder::new().descriptor_file("runtime_descriptors.bin").compile(&files, &[root])?;
    Ok(())
}

//! The settings of a compilation, and the compilation. It writes into one folder and tells cargo what it has read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};
use protox::prost_reflect::DescriptorPool;

use crate::gateway_generator::GatewayGenerator;

/// What gateways import: by which name, and its text, which is handed to the compiler when no include folder has it.
const OURS: &[(&str, &str)] = &[
    ("palisade/rpc/v1/told.proto", include_str!("../../../proto/palisade/rpc/v1/told.proto")),
    ("palisade/rpc/v1/options.proto", include_str!("../../../proto/palisade/rpc/v1/options.proto")),
];

/// Settings of a compilation. `Builder::new().compile(..)` is [`crate::compile`].
pub struct Builder {
    out: Option<PathBuf>,
    descriptors: String,
    bytes: Vec<String>,
    extern_paths: Vec<(String, String)>,
    rpc_crate: String,
    watched: Vec<PathBuf>,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder::new()
    }
}

impl Builder {
    /// Output into `OUT_DIR`, bytes fields as `bytes::Bytes`, maps ordered.
    pub fn new() -> Builder {
        Builder {
            out: None,
            descriptors: "palisade_rpc_descriptors.bin".to_owned(),
            bytes: vec![".".to_owned()],
            extern_paths: Vec::new(),
            rpc_crate: "::palisade_rpc".to_owned(),
            watched: Vec::new(),
        }
    }

    /// Writes into this folder instead of `OUT_DIR`. It must be `OUT_DIR` for the generated `include_bytes!` to find the
    /// descriptors, unless they are moved there.
    pub fn out_dir(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.out = Some(folder.into());
        self
    }

    /// Name of the descriptor file; to be set when one `build.rs` compiles twice.
    pub fn descriptor_file(mut self, name: impl Into<String>) -> Builder {
        self.descriptors = name.into();
        self
    }

    /// Which fields of type `bytes` become `bytes::Bytes` (prost's path syntax); all of them by default.
    pub fn bytes(mut self, paths: &[&str]) -> Builder {
        self.bytes = paths.iter().map(|path| (*path).to_owned()).collect();
        self
    }

    /// Messages of this proto package are taken from that Rust path instead of being generated.
    pub fn extern_path(mut self, proto: impl Into<String>, rust: impl Into<String>) -> Builder {
        self.extern_paths.push((proto.into(), rust.into()));
        self
    }

    /// Has cargo compile again only when this changes, instead of whenever an include folder does: for includes that hold much
    /// else. May be given several times.
    pub fn watch(mut self, path: impl Into<PathBuf>) -> Builder {
        self.watched.push(path.into());
        self
    }

    /// The Rust path of palisade-rpc, if it is not `::palisade_rpc`.
    pub fn rpc_crate(mut self, path: impl Into<String>) -> Builder {
        self.rpc_crate = path.into();
        self
    }

    /// Compiles. Every error names the file and what is wrong with it.
    pub fn compile(self, protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), CompileError> {
        let out = match self.out {
            Some(folder) => folder,
            None => PathBuf::from(env::var_os("OUT_DIR").ok_or(CompileError::NoOutDir)?),
        };

        let includes_of = || includes.iter().map(|include| include.as_ref().to_owned());
        let watched = if self.watched.is_empty() { includes_of().collect() } else { self.watched };
        for path in &watched {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        let mut compiler = protox::Compiler::with_file_resolver(resolver(includes));
        compiler.include_imports(true).include_source_info(true).open_files(protos)?;
        let control = control_methods(&compiler.descriptor_pool());
        // Without the comments: they are in the generated code.
        let mut bare = protox::Compiler::with_file_resolver(resolver(includes));
        bare.include_imports(true).open_files(protos)?;
        fs::write(out.join(&self.descriptors), bare.encode_file_descriptor_set())?;

        let mut config = prost_build::Config::new();
        config
            .out_dir(&out)
            .btree_map(["."])
            .bytes(&self.bytes)
            .extern_path(".palisade.rpc.v1", format!("{}::v1", self.rpc_crate))
            .service_generator(Box::new(GatewayGenerator::new(self.rpc_crate, self.descriptors, control)));
        for (proto, rust) in self.extern_paths {
            config.extern_path(proto, rust);
        }
        config.compile_fds(compiler.file_descriptor_set())?;
        Ok(())
    }
}

/// The includes first, then what everybody may import.
fn resolver(includes: &[impl AsRef<Path>]) -> ChainFileResolver {
    let mut resolver = ChainFileResolver::new();
    for include in includes {
        resolver.add(IncludeFileResolver::new(include.as_ref().to_owned()));
    }
    resolver.add(OurFiles);
    resolver.add(GoogleFileResolver::new());
    resolver
}

/// Full names of the methods with the option `(palisade.rpc.v1.control) = true`.
fn control_methods(pool: &DescriptorPool) -> BTreeSet<String> {
    // Not imported: nobody can have set it.
    let Some(control) = pool.get_extension_by_name("palisade.rpc.v1.control") else { return BTreeSet::new() };
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    methods
        .filter(|method| method.options().get_extension(&control).as_bool() == Some(true))
        .map(|method| method.full_name().to_owned())
        .collect()
}

/// Serves the files that gateways import.
struct OurFiles;

impl FileResolver for OurFiles {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match OURS.iter().find(|(ours, _)| *ours == name) {
            Some((_, text)) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The gateways could not be generated.
#[derive(Debug)]
pub enum CompileError {
    /// Not called from a build script, and no folder was given.
    NoOutDir,
    /// A `.proto` file is wrong or missing.
    Proto(protox::Error),
    /// A file could not be written, or a name cannot be expressed in Rust.
    Io(io::Error),
}

impl std::fmt::Display for CompileError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CompileError::NoOutDir => f.write_str("OUT_DIR is not set: call this from build.rs, or give an out_dir"),
            // protox's Debug is its report with the place in the file; its Display is one line without it.
            CompileError::Proto(error) => write!(f, "{error:?}"),
            CompileError::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for CompileError {}

impl From<protox::Error> for CompileError {
    fn from(error: protox::Error) -> CompileError {
        CompileError::Proto(error)
    }
}

impl From<io::Error> for CompileError {
    fn from(error: io::Error) -> CompileError {
        CompileError::Io(error)
    }
}

//! What the demo counts, and the plain count that the result is compared with.
//!
//! The plain count shares nothing with the job: it reads each file whole and splits it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::exit::{Failure, USAGE};

/// Extensions that count as text where there is no git.
const TEXT: [&str; 3] = ["md", "rs", "txt"];

/// A file and as much of it as there was at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InputFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
}

/// The files below `--input`; without it, the text files that git tracks below the working directory, else by extension.
pub(crate) fn list(input: Option<&Path>) -> Result<Vec<InputFile>, Failure> {
    let (paths, of) = match input {
        Some(dir) => (walk(dir, &|_| true)?, dir.display().to_string()),
        None => {
            let here = std::env::current_dir()?;
            let paths = match git_files(&here) {
                Some(paths) => paths.into_iter().filter(|path| is_text(path)).collect(),
                None => walk(&here, &visible)?.into_iter().filter(|path| has_text_name(path)).collect(),
            };
            (paths, here.display().to_string())
        }
    };
    let files: Vec<_> = paths
        .into_iter()
        .filter_map(|path| {
            let meta = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file)?;
            Some(InputFile { path: path.canonicalize().ok()?, size: meta.len() })
        })
        .collect();
    if files.iter().all(|file| file.size == 0) {
        return Err(Failure::usage("--input", of, "there is nothing to count in it").with_code(USAGE));
    }
    Ok(files)
}

fn walk(dir: &Path, enter: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = std::fs::read_dir(&dir)
            .map_err(|error| Failure::usage("--input", dir.display().to_string(), error.to_string()))?;
        for entry in entries {
            let entry = entry?;
            // Links are not followed: neither out of the folder nor round in circles.
            let kind = entry.file_type()?;
            if kind.is_dir() && enter(&entry.path()) {
                open.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn visible(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name != "target" && !name.to_string_lossy().starts_with('.'))
}

fn has_text_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| TEXT.iter().any(|text| extension == *text))
}

fn is_text(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|bytes| std::str::from_utf8(&bytes).is_ok())
}

fn git_files(dir: &Path) -> Option<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(dir)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let paths: Vec<_> = names.map(|name| dir.join(String::from_utf8_lossy(name).into_owned())).collect();
    (!paths.is_empty()).then_some(paths)
}

/// Counts the words of all files: maximal runs of bytes other than 09-0D and 20.
pub(crate) fn count(files: &[InputFile]) -> Result<BTreeMap<Vec<u8>, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for file in files {
        let bytes = std::fs::read(&file.path)?;
        let size = usize::try_from(file.size).unwrap_or(usize::MAX).min(bytes.len());
        for word in bytes[..size].split(|byte| matches!(byte, 0x09..=0x0d | 0x20)).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_vec()).or_default() += 1;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_runs_of_bytes_other_than_white_space() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), b"a b\x0ba\x85a\x00 \xff\xff").unwrap();
        std::fs::write(dir.path().join("b"), b"a").unwrap();
        let files = list(Some(dir.path())).unwrap();
        let counts = count(&files).unwrap();
        assert_eq!(counts[&b"a"[..]], 2, "the last word of a file does not run into the next file");
        assert_eq!(counts[&b"a\x85a\x00"[..]], 1);
        assert_eq!(counts.values().sum::<u64>(), 5);
    }

    #[test]
    fn an_empty_folder_is_a_usage_error() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(Some(dir.path())).unwrap_err().code, USAGE);
    }
}

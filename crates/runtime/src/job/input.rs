//! Lists the input of a job: once, at submission, so that every attempt reads the same bytes.

use std::io;
use std::path::{Path, PathBuf};

use palisade_world::files::{FileKind, Files};
use thiserror::Error;

use super::spec::Input;
use crate::dataflow::path::InputPath;
use crate::dataflow::split::InputFile;

/// The list is kept in memory by every process of the job.
const FILES_MAX: usize = 1_000_000;

/// The input cannot be read.
#[derive(Debug, Error)]
pub enum InputError {
    /// A path cannot be looked at.
    #[error("input: '{path}': {error}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A path that was named is a link, a device or the like.
    #[error("input: '{path}' is neither a regular file nor a folder (links are not followed)")]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// There is nothing to read.
    #[error("input: there is no regular file in it")]
    Empty,
    /// Too many files.
    #[error("input: more than {FILES_MAX} files")]
    TooMany,
}

/// The files of an input with their sizes, sorted by path; each once. Blocking.
pub fn list_input(files: &dyn Files, input: &Input) -> Result<Vec<InputFile>, InputError> {
    let mut found = Vec::new();
    match input {
        Input::Path(path) => walk(files, &path.to_path(), &mut found)?,
        Input::Files(paths) => paths.iter().try_for_each(|path| walk(files, &path.to_path(), &mut found))?,
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    if found.is_empty() { Err(InputError::Empty) } else { Ok(found) }
}

fn walk(files: &dyn Files, root: &Path, found: &mut Vec<InputFile>) -> Result<(), InputError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| InputError::Unreadable { path, error }
    };
    let root = std::path::absolute(root).map_err(unreadable(root))?;
    match files.kind(&root).map_err(unreadable(&root))? {
        FileKind::File { bytes } => return add(&root, bytes, found),
        FileKind::Other => return Err(InputError::NotAFile { path: root }),
        FileKind::Folder => {}
    }
    // A stack of our own: a deep tree must not overflow the thread's.
    let mut folders = vec![root];
    while let Some(folder) = folders.pop() {
        for entry in files.list(&folder).map_err(unreadable(&folder))? {
            let path = folder.join(entry.name);
            match entry.kind {
                FileKind::Folder => folders.push(path),
                FileKind::File { bytes } => add(&path, bytes, found)?,
                FileKind::Other => {}
            }
        }
    }
    Ok(())
}

fn add(path: &Path, size: u64, found: &mut Vec<InputFile>) -> Result<(), InputError> {
    if found.len() >= FILES_MAX {
        return Err(InputError::TooMany);
    }
    found.push(InputFile { path: InputPath::from(path), size });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use palisade_world::LocalFiles;

    use super::*;

    #[test]
    fn links_are_not_followed_and_a_folder_is_read_to_the_bottom() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("b/c")).unwrap();
        fs::write(at("a"), "12345").unwrap();
        fs::write(at("b/c/d"), "123").unwrap();
        std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("b"), at("loop")).unwrap();
        let files = list_input(&LocalFiles, &Input::Path(InputPath::from(folder.path()))).unwrap();
        let found: Vec<(PathBuf, u64)> = files.iter().map(|file| (file.path.to_path(), file.size)).collect();
        assert_eq!(found, [(at("a"), 5), (at("b/c/d"), 3)]);
        let link = Input::Files(vec![InputPath::from(at("link").as_path())]);
        assert!(matches!(list_input(&LocalFiles, &link), Err(InputError::NotAFile { .. })));
        let twice = Input::Files(vec![InputPath::from(at("a").as_path()), InputPath::from(at("a").as_path())]);
        assert_eq!(list_input(&LocalFiles, &twice).unwrap().len(), 1);
        fs::create_dir(at("empty")).unwrap();
        assert!(matches!(
            list_input(&LocalFiles, &Input::Path(InputPath::from(at("empty").as_path()))),
            Err(InputError::Empty)
        ));
    }
}

//! Files in memory, seen by all processes of a run alike, as over a network. What a process wrote and did not sync may be lost
//! when it crashes: bytes of files, and names in folders, each in part.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use palisade_world::files::{FileKind, FileLock, Files, FolderEntry, OpenFile};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::plan::Who;

/// The files of a run. Clones are the same files.
#[derive(Clone, Default)]
pub(crate) struct SharedFiles(Arc<Mutex<Tree>>);

#[derive(Default)]
struct Tree {
    names: BTreeMap<PathBuf, Name>,
    /// Changes of names that no sync has covered yet, oldest first.
    unsynced: Vec<Change>,
    locks: BTreeSet<PathBuf>,
    /// Processes that find no room for anything new.
    full: BTreeSet<Who>,
}

#[derive(Clone)]
enum Name {
    Folder,
    File(Arc<Mutex<Content>>),
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
    /// Who wrote what is not synced.
    written_by: Option<Who>,
}

/// One step of one process: what each path stood for before.
struct Change {
    by: Who,
    before: Vec<(PathBuf, Option<Name>)>,
}

impl SharedFiles {
    /// The files as one process sees them.
    pub(crate) fn of(&self, process: Who) -> SimFiles {
        SimFiles { files: self.clone(), process }
    }

    /// A process crashes. Of its changes of names that were not synced, the first ones stay, as many as `seed` says; of each
    /// of its files, what was synced and perhaps some of the rest.
    pub(crate) fn crash(&self, process: Who, seed: u64) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut tree = self.lock();
        let (own, others) =
            std::mem::take(&mut tree.unsynced).into_iter().partition::<Vec<_>, _>(|it| it.by == process);
        tree.unsynced = others;
        let stay = rng.random_range(0..=own.len());
        for change in own.into_iter().skip(stay).rev() {
            change.before.into_iter().for_each(|(path, before)| tree.put(path, before));
        }
        for name in tree.names.values() {
            let Name::File(content) = name else { continue };
            let mut content = lock(content);
            if content.written_by == Some(process) {
                content.written_by = None;
                content.bytes = match rng.random_range(0..3) {
                    0 => content.synced.clone(),
                    1 => content.bytes[..rng.random_range(0..=content.bytes.len())].to_vec(),
                    _ => std::mem::take(&mut content.bytes),
                };
                content.synced = content.bytes.clone();
            }
        }
    }

    /// From now on a process finds no room: it makes no file and no folder, and writes nothing.
    pub(crate) fn fill(&self, process: Who) {
        self.lock().full.insert(process);
    }

    /// There is room again.
    pub(crate) fn make_room(&self, process: Who) {
        self.lock().full.remove(&process);
    }

    /// Whether a process finds no room.
    pub(crate) fn is_full(&self, process: Who) -> bool {
        self.lock().full.contains(&process)
    }

    fn room(&self, process: Who) -> io::Result<()> {
        if self.is_full(process) { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Tree> {
        lock(&self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tree {
    fn get(&self, path: &Path) -> io::Result<&Name> {
        self.names.get(path).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn file(&self, path: &Path) -> io::Result<&Arc<Mutex<Content>>> {
        match self.get(path)? {
            Name::File(content) => Ok(content),
            Name::Folder => Err(ErrorKind::IsADirectory.into()),
        }
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        match self.get(path)? {
            Name::Folder => Ok(()),
            Name::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    /// Everything below a folder.
    fn below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Name)> {
        self.names.range(folder.to_owned()..).skip(1).take_while(move |(path, _)| path.starts_with(folder))
    }

    /// Lets a path stand for something else, or nothing; without a folder nothing is in it.
    fn put(&mut self, path: PathBuf, name: Option<Name>) {
        match name {
            Some(name) => drop(self.names.insert(path, name)),
            None => self.names.retain(|other, _| !other.starts_with(&path)),
        }
    }

    /// One step of a process, to be forgotten by a crash before the next sync.
    fn change(&mut self, by: Who, steps: Vec<(PathBuf, Option<Name>)>) {
        let before = steps.iter().map(|(path, _)| (path.clone(), self.names.get(path).cloned())).collect();
        self.unsynced.push(Change { by, before });
        steps.into_iter().for_each(|(path, name)| self.put(path, name));
    }
}

/// The files as one process sees them.
pub(crate) struct SimFiles {
    files: SharedFiles,
    process: Who,
}

impl SimFiles {
    fn opened(&self, content: Arc<Mutex<Content>>) -> SimFile {
        SimFile { content, files: self.files.clone(), process: self.process }
    }
}

impl Files for SimFiles {
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let content = self.files.lock().file(path)?.clone();
        Ok(Box::new(self.opened(content)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        self.files.room(self.process)?;
        let mut tree = self.files.lock();
        let content = match tree.file(path) {
            Ok(content) => content.clone(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tree.folder(parent(path))?;
                let content = Arc::<Mutex<Content>>::default();
                tree.change(self.process, vec![(path.to_owned(), Some(Name::File(content.clone())))]);
                content
            }
            Err(error) => return Err(error),
        };
        drop(tree);
        let mut emptied = lock(&content);
        emptied.bytes.clear();
        emptied.written_by = Some(self.process);
        drop(emptied);
        Ok(Box::new(self.opened(content)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.files.lock();
        let moved = Name::File(tree.file(from)?.clone());
        tree.folder(parent(to))?;
        tree.change(self.process, vec![(to.to_owned(), Some(moved)), (from.to_owned(), None)]);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.files.lock();
        tree.file(path)?;
        tree.change(self.process, vec![(path.to_owned(), None)]);
        Ok(())
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.files.lock();
        tree.folder(path)?;
        // Bottom up, each a step of its own: a crash may come between any two.
        let below: Vec<PathBuf> = tree.below(path).map(|(path, _)| path.clone()).collect();
        for gone in below.into_iter().rev().chain([path.to_owned()]) {
            tree.change(self.process, vec![(gone, None)]);
        }
        Ok(())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.files.room(self.process)?;
        let mut tree = self.files.lock();
        let missing: Vec<PathBuf> =
            path.ancestors().take_while(|at| !tree.names.contains_key(*at)).map(Path::to_owned).collect();
        if let Some(there) = path.ancestors().nth(missing.len()) {
            tree.folder(there)?;
        }
        for made in missing.into_iter().rev() {
            match parent(&made) == made {
                // The root is not made by anybody.
                true => tree.put(made, Some(Name::Folder)),
                false => tree.change(self.process, vec![(made, Some(Name::Folder))]),
            }
        }
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.files.lock();
        tree.folder(path)?;
        tree.unsynced.retain(|change| change.before.iter().any(|(changed, _)| parent(changed) != path));
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<FolderEntry>> {
        let tree = self.files.lock();
        tree.folder(folder)?;
        let inside = tree.below(folder).filter(|(path, _)| parent(path) == folder);
        let entry = |(path, name): (&PathBuf, &Name)| FolderEntry {
            name: path.file_name().unwrap_or_default().to_owned(),
            kind: kind_of(name),
        };
        Ok(inside.map(entry).collect())
    }

    fn kind(&self, path: &Path) -> io::Result<FileKind> {
        self.files.lock().get(path).map(kind_of)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        let taken = self.files.lock().locks.insert(path.to_owned());
        Ok(taken.then(|| FileLock::new(Held { files: self.files.clone(), path: path.to_owned() })))
    }
}

fn kind_of(name: &Name) -> FileKind {
    match name {
        Name::Folder => FileKind::Folder,
        Name::File(content) => FileKind::File { bytes: lock(content).bytes.len() as u64 },
    }
}

/// The folder that holds a path; the root holds itself.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// A lock; it ends with its process.
struct Held {
    files: SharedFiles,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.files.lock().locks.remove(&self.path);
    }
}

struct SimFile {
    content: Arc<Mutex<Content>>,
    files: SharedFiles,
    process: Who,
}

impl OpenFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        Ok(lock(&self.content).bytes.len() as u64)
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let content = lock(&self.content);
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = content.bytes.get(from..).and_then(|rest| rest.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.files.room(self.process)?;
        let mut content = lock(&self.content);
        content.bytes.extend_from_slice(bytes);
        content.written_by = Some(self.process);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = lock(&self.content);
        content.synced = content.bytes.clone();
        content.written_by = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use palisade_world::files;

    use super::*;

    const ONE: Who = Who { role: crate::plan::Role::Node, number: 1 };

    fn tree() -> (SharedFiles, SimFiles) {
        let shared = SharedFiles::default();
        let files = shared.of(ONE);
        files.create_folder(Path::new("/a/b")).unwrap();
        for folder in ["/", "/a"] {
            files.sync_folder(Path::new(folder)).unwrap();
        }
        (shared, files)
    }

    /// What a crash leaves of a path, over many seeds.
    fn after_crashes(path: &str, write: impl Fn(&SimFiles)) -> BTreeSet<Option<Vec<u8>>> {
        let left = |seed| {
            let (shared, files) = tree();
            write(&files);
            shared.crash(ONE, seed);
            files::read(&files, Path::new(path)).ok()
        };
        (0..200).map(left).collect()
    }

    #[test]
    fn what_is_replaced_with_syncs_survives_every_crash() {
        let path = Path::new("/a/b/file");
        let left = after_crashes("/a/b/file", |files| {
            files::replace(files, path, Path::new("/a/b/file.tmp"), b"whole").unwrap();
        });
        assert_eq!(left, [Some(b"whole".to_vec())].into());
    }

    #[test]
    fn each_missing_sync_is_noticed() {
        let (path, temporary) = (Path::new("/a/b/file"), Path::new("/a/b/file.tmp"));
        let without_file_sync = after_crashes("/a/b/file", |files| {
            files.create(temporary).unwrap().write_all(b"whole").unwrap();
            files.rename(temporary, path).unwrap();
            files.sync_folder(Path::new("/a/b")).unwrap();
        });
        assert!(without_file_sync.contains(&Some(Vec::new())), "{without_file_sync:?}");
        let without_folder_sync = after_crashes("/a/b/file", |files| {
            let mut file = files.create(temporary).unwrap();
            file.write_all(b"whole").unwrap();
            file.sync().unwrap();
            files.rename(temporary, path).unwrap();
        });
        assert_eq!(without_folder_sync, [None, Some(b"whole".to_vec())].into());
        let without_parent_sync = after_crashes("/a/new/file", |files| {
            files.create_folder(Path::new("/a/new")).unwrap();
            files::replace(files, Path::new("/a/new/file"), Path::new("/a/new/tmp"), b"whole").unwrap();
        });
        assert_eq!(without_parent_sync, [None, Some(b"whole".to_vec())].into());
    }

    #[test]
    fn only_the_crashed_process_loses_something() {
        let (shared, files) = tree();
        let mut file = files.create(Path::new("/a/b/file")).unwrap();
        file.write_all(b"unsynced").unwrap();
        shared.crash(Who { number: 2, ..ONE }, 1);
        assert_eq!(files::read(&files, Path::new("/a/b/file")).unwrap(), b"unsynced");
    }

    #[test]
    fn who_finds_no_room_writes_nothing_new() {
        let (shared, files) = tree();
        let mut file = files.create(Path::new("/a/b/file")).unwrap();
        shared.fill(ONE);
        assert_eq!(file.write_all(b"more").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(files.create(Path::new("/a/b/other")).err().unwrap().kind(), ErrorKind::StorageFull);
        assert_eq!(files.create_folder(Path::new("/c")).unwrap_err().kind(), ErrorKind::StorageFull);
        shared.of(Who { number: 2, ..ONE }).create_folder(Path::new("/c")).unwrap();
        shared.make_room(ONE);
        file.write_all(b"more").unwrap();
    }

    #[test]
    fn a_folder_is_listed_and_removed_with_all_that_is_in_it() {
        let (_, files) = tree();
        files.create(Path::new("/a/b/file")).unwrap();
        files.create(Path::new("/a/bb")).unwrap();
        let names = |path: &str| -> Vec<_> {
            files.list(Path::new(path)).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap()).collect()
        };
        assert_eq!(names("/a"), ["b", "bb"]);
        assert_eq!(names("/a/b"), ["file"]);
        files.remove_folder(Path::new("/a/b")).unwrap();
        assert_eq!(names("/a"), ["bb"]);
        assert_eq!(files.list(Path::new("/a/b")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(files.create(Path::new("/a/b/x")).err().unwrap().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let (_, files) = tree();
        let held = files.lock(Path::new("/a/lock")).unwrap();
        assert!(held.is_some() && files.lock(Path::new("/a/lock")).unwrap().is_none());
        drop(held);
        assert!(files.lock(Path::new("/a/lock")).unwrap().is_some());
    }
}

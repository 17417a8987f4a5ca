//! A path of the input that survives JSON: text when it is UTF-8, its bytes when it is not.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A path, as people write it or as the file system has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InputPath {
    /// A path in UTF-8.
    Text(String),
    /// Any other.
    Bytes(Vec<u8>),
}

impl InputPath {
    /// As the file system wants it.
    pub fn to_path(&self) -> PathBuf {
        match self {
            InputPath::Text(text) => PathBuf::from(text),
            InputPath::Bytes(bytes) => PathBuf::from(OsStr::from_bytes(bytes)),
        }
    }
}

impl From<&str> for InputPath {
    fn from(text: &str) -> InputPath {
        InputPath::Text(text.to_owned())
    }
}

impl From<&Path> for InputPath {
    fn from(path: &Path) -> InputPath {
        match path.to_str() {
            Some(text) => InputPath::Text(text.to_owned()),
            None => InputPath::Bytes(path.as_os_str().as_bytes().to_vec()),
        }
    }
}

impl std::fmt::Display for InputPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_path().display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_text_survives_json() {
        let odd = PathBuf::from(OsStr::from_bytes(b"/tmp/\xff.txt"));
        let json = serde_json::to_string(&InputPath::from(odd.as_path())).unwrap();
        assert_eq!(serde_json::from_str::<InputPath>(&json).unwrap().to_path(), odd);
        assert_eq!(serde_json::to_string(&InputPath::from("/a b")).unwrap(), "\"/a b\"");
    }
}

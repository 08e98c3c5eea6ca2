//! Read-only file mappings as `Bytes`: a model of many gigabytes costs address space, not memory.
//!
//! The crate's one unsafe block.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// A mapped file.
#[derive(Clone, Debug)]
pub struct FileMap {
    bytes: Bytes,
}

impl FileMap {
    /// Maps all of the file at `path`. An empty file is legal.
    ///
    /// # Errors
    /// Those of the operating system; a folder is an error, too.
    pub fn open(path: &Path) -> io::Result<FileMap> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        if metadata.len() == 0 {
            return Ok(FileMap { bytes: Bytes::new() });
        }
        // SAFETY: the mapping is private and read-only. A file that another process shortens while it is
        // mapped can fault; sizes are checked at open and again before each run, and models are not written
        // to while they are compiled.
        let map = unsafe { Mmap::map(&file)? };
        Ok(FileMap { bytes: Bytes::from_owner(map) })
    }

    /// The file's bytes; cloning or slicing them copies nothing.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_files_and_refuses_folders() -> io::Result<()> {
        let map = FileMap::open(Path::new("Cargo.toml"))?;
        assert_eq!(map.bytes(), std::fs::read("Cargo.toml")?);
        assert!(FileMap::open(Path::new("src")).is_err());
        Ok(())
    }
}

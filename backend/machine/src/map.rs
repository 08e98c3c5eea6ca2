//! Memory-mapped files as [`Bytes`]: the crate's only unsafe code.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// A read-only mapping of a whole file. Clones of its bytes keep it alive.
///
/// The file must not be truncated while mapped: the length is taken at open, and [`FileMap::still_whole`] compares
/// it again before a run, so that a shrunken file is an error and not a bus error in the common case.
#[derive(Clone, Debug)]
pub struct FileMap {
    file: Arc<File>,
    bytes: Bytes,
}

impl FileMap {
    /// Maps a file.
    ///
    /// # Errors
    /// What the system says; a directory or a device is refused.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> io::Result<FileMap> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if meta.len() == 0 {
            return Ok(FileMap { file: Arc::new(file), bytes: Bytes::new() });
        }
        // SAFETY: the mapping is private and read-only and outlives every slice (`Bytes` owns it). What cannot be
        // excluded is another process changing the file meanwhile; the contract above says so.
        let map = unsafe { Mmap::map(&file)? };
        Ok(FileMap { file: Arc::new(file), bytes: Bytes::from_owner(map) })
    }

    /// The whole file, without a copy.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Length in bytes at open.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Whether the file was empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the file is still at least as long as when it was opened.
    ///
    /// # Errors
    /// What the system says.
    pub fn still_whole(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() >= self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn maps_and_notices_truncation() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0123456789").unwrap();
        let map = FileMap::open(file.path()).unwrap();
        assert_eq!(&map.bytes()[3..5], b"34");
        assert!(map.still_whole().unwrap());
        file.as_file().set_len(4).unwrap();
        assert!(!map.still_whole().unwrap());
    }

    #[test]
    fn an_empty_file_and_a_directory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(FileMap::open(file.path()).unwrap().is_empty());
        assert!(FileMap::open(&std::env::temp_dir()).is_err());
    }
}

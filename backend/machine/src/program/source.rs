//! The files a program refers to: naming, fingerprints, opening.

use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use super::*;
use crate::map::FileMap;

/// Blocks of a fingerprint.
const BLOCKS: u64 = 64;
/// Bytes of each block.
const BLOCK_BYTES: u64 = 4096;

impl FileRef {
    /// A reference to a file with these contents at a relative path.
    ///
    /// # Errors
    /// A path that is absolute or leaves the model's directory.
    pub fn new(path: &str, contents: &[u8]) -> Result<FileRef, ProgramError> {
        let file = FileRef {
            path: path.to_owned(),
            size: contents.len() as u64,
            digest: FileRef::digest_of(contents),
            seal: None,
        };
        file.check_path()?;
        Ok(file)
    }

    /// SHA-256 of 64 blocks of 4 KiB, the first at the start, the last at the end, the others evenly between; of
    /// everything, if the file is no longer than they are together.
    pub fn digest_of(contents: &[u8]) -> [u8; 32] {
        let size = contents.len() as u64;
        if size <= BLOCKS * BLOCK_BYTES {
            return Sha256::digest(contents).into();
        }
        let mut hash = Sha256::new();
        for i in 0..BLOCKS {
            let start = (u128::from(size - BLOCK_BYTES) * u128::from(i) / u128::from(BLOCKS - 1)) as usize;
            hash.update(&contents[start..start + BLOCK_BYTES as usize]);
        }
        hash.finalize().into()
    }

    /// SHA-256 of everything.
    pub fn seal_of(contents: &[u8]) -> [u8; 32] {
        Sha256::digest(contents).into()
    }

    /// Paths are relative, with `/`, and stay below the model's directory.
    pub(super) fn check_path(&self) -> Result<(), ProgramError> {
        let plain = Path::new(&self.path).components().all(|c| matches!(c, Component::Normal(_)));
        match !self.path.is_empty() && plain && !self.path.contains(['\\', '\0', ':']) {
            true => Ok(()),
            false => Err(invalid(format!(
                "file path `{}` is not relative or leaves the model's directory",
                self.path
            ))),
        }
    }

    /// Opens the file below `directory` and compares it with the reference.
    ///
    /// # Errors
    /// The file is missing or another than at compile time.
    pub fn open(&self, directory: &Path) -> Result<FileMap, ProgramError> {
        self.check_path()?;
        let path = directory.join(&self.path);
        let map = FileMap::open(&path)
            .map_err(|e| ProgramError::Io { path: self.path.clone(), message: e.to_string() })?;
        let changed =
            |what: &str| ProgramError::FileChanged { path: self.path.clone(), what: what.to_owned() };
        if map.len() != self.size {
            return Err(changed(&format!("it has {} bytes, not {}", map.len(), self.size)));
        }
        if FileRef::digest_of(&map.bytes()) != self.digest {
            return Err(changed("its fingerprint differs"));
        }
        match self.seal {
            Some(seal) if FileRef::seal_of(&map.bytes()) != seal => Err(changed("its contents differ")),
            _ => Ok(map),
        }
    }
}

impl Program {
    /// Opens every file below the model's directory.
    ///
    /// # Errors
    /// As [`FileRef::open`], for the first file that fails.
    pub fn open_files(&self, directory: &Path) -> Result<Vec<FileMap>, ProgramError> {
        self.files.iter().map(|f| f.open(directory)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut contents: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
        let path = dir.path().join("w.bin");
        std::fs::write(&path, &contents).unwrap();
        let file = FileRef::new("w.bin", &contents).unwrap();
        assert_eq!(file.open(dir.path()).unwrap().bytes(), contents);
        contents[999_999] ^= 1;
        std::fs::write(&path, &contents).unwrap();
        let error = file.open(dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "w.bin is not the file that was compiled: its fingerprint differs");
        contents.pop();
        std::fs::write(&path, &contents).unwrap();
        assert!(file.open(dir.path()).unwrap_err().to_string().contains("999999 bytes, not 1000000"));
    }

    #[test]
    fn a_seal_sees_what_the_fingerprint_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut contents = vec![0; 1_000_000];
        let mut file = FileRef::new("w.bin", &contents).unwrap();
        contents[6000] = 1; // between two blocks
        std::fs::write(dir.path().join("w.bin"), &contents).unwrap();
        assert!(file.open(dir.path()).is_ok());
        file.seal = Some(FileRef::seal_of(&vec![0; 1_000_000]));
        assert!(file.open(dir.path()).unwrap_err().to_string().ends_with("its contents differ"));
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["/etc/passwd", "../x", "a/../../b", "", "c:\\x", "./x"] {
            assert!(FileRef::new(path, &[]).is_err(), "{path}");
        }
        assert!(FileRef::new("sub/w.bin", &[]).is_ok());
    }
}

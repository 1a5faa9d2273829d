//! How much of the volume is taken, and how much is left.

use std::fs;
use std::io;
use std::path::Path;

/// Bytes that the files of a directory take up, without those of directories in it.
pub fn taken(directory: &Path) -> io::Result<u64> {
    let mut total = 0;
    for found in fs::read_dir(directory)? {
        match found?.metadata() {
            Ok(metadata) if metadata.is_file() => total += blocks(&metadata),
            // Deleted by its owner since it was listed.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(total)
}

/// A volume, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Free for us.
    pub free: u64,
    pub total: u64,
}

pub fn of(directory: &Path) -> io::Result<Space> {
    let volume = rustix::fs::statvfs(directory)?;
    let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
    Ok(Space { free: bytes(volume.f_bavail), total: bytes(volume.f_blocks) })
}

/// Files may be allocated ahead of their length, or have holes.
fn blocks(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(metadata) * 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_taken() {
        let dir = tempfile::tempdir().expect("directory");
        assert_eq!(taken(dir.path()).expect("taken"), 0);
        let file = fs::File::create(dir.path().join("file")).expect("create");
        io::Write::write_all(&mut &file, &[1; 100_000]).expect("write");
        file.sync_all().expect("sync");
        let bytes = taken(dir.path()).expect("taken");
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        let Space { free, total } = of(dir.path()).expect("a volume");
        assert!(0 < free && free <= total);
        of(&dir.path().join("none")).expect_err("no such directory");
    }
}

//! A small disk of its own for a node.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Less than the 106 MiB that RocksDB reserves for a log of ours when it can: what is reserved
/// already would still be written on a full disk.
const SIZE: &str = "32m";

/// Left free when a disk is filled: what is to fill it is the node's own writing.
const LEFT: usize = 64 << 10;

/// A file system in memory; unmounted when dropped.
pub struct Volume {
    folder: PathBuf,
}

impl Volume {
    /// Mounts one; says so when that cannot be done here.
    pub fn mount(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).expect("writable");
        let options = format!("size={SIZE},mode=700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder)
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            println!("fault skipped: a file system cannot be mounted here");
            return None;
        }
        Some(Self { folder: folder.to_owned() })
    }

    /// Fills it but for a little; the space comes back when the ballast is dropped.
    pub fn fill(&self) -> Ballast {
        self.fill_but(LEFT as u64)
    }

    /// Leaves just under the eighth that a node wants to have free.
    pub fn nearly_fill(&self) -> Ballast {
        self.fill_but(7 << 19)
    }

    fn fill_but(&self, left: u64) -> Ballast {
        let path = self.folder.join("lost+found");
        let mut file = File::create(&path).expect("writable");
        let block = vec![1; LEFT];
        let mut length = 0;
        while file.write_all(&block).is_ok() {
            length += LEFT as u64;
        }
        file.set_len(length.saturating_sub(left)).expect("can be cut");
        Ballast { path }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily: a process of a test that failed may still be there.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// What takes the space of a volume.
pub struct Ballast {
    path: PathBuf,
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

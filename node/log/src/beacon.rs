//! The tail beacon: a small file that remembers a round known to be durable.
//!
//! No mode of the storage engine notices a log that was cut cleanly, or replaced by an older
//! copy of itself. The beacon does: a log that ends before it is refused. It is written after
//! the sync that it speaks of and is never synced itself on the way of a write, so it may be
//! old after a loss of power, but never ahead.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub const FILE: &str = "BEACON";

/// The two slots are in pages of their own: a torn write damages one of them at most.
const SLOT_STRIDE: u64 = 4096;
const SLOT_BYTES: usize = 28;
const MAGIC: &[u8; 8] = b"MRBEACN1";

#[derive(Debug)]
pub struct Beacon {
    file: File,
    incarnation: u64,
    round: u64,
    /// The slot that holds `round`; the other one is written next.
    slot: u64,
}

/// What is wrong with a beacon's file.
#[derive(Debug)]
pub enum BeaconError {
    Io(io::Error),
    Damaged,
    /// It belongs to another directory.
    Foreign,
}

impl Beacon {
    /// Makes the file, durable but for its name in the directory.
    pub fn create(dir: &Path, incarnation: u64) -> io::Result<()> {
        let file = File::create(dir.join(FILE))?;
        for slot in 0..2 {
            file.write_all_at(&encode(incarnation, 0), slot * SLOT_STRIDE)?;
        }
        file.sync_all()
    }

    pub fn open(dir: &Path, incarnation: u64) -> Result<Self, BeaconError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(dir.join(FILE))
            .map_err(BeaconError::Io)?;
        let mut newest: Option<(u64, u64)> = None;
        for slot in 0..2 {
            let mut bytes = [0; SLOT_BYTES];
            match file.read_exact_at(&mut bytes, slot * SLOT_STRIDE) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(e) => return Err(BeaconError::Io(e)),
            }
            let Some((owner, round)) = decode(&bytes) else { continue };
            if owner != incarnation {
                return Err(BeaconError::Foreign);
            }
            if newest.is_none_or(|(best, _)| round > best) {
                newest = Some((round, slot));
            }
        }
        let (round, slot) = newest.ok_or(BeaconError::Damaged)?;
        Ok(Self { file, incarnation, round, slot })
    }

    pub fn round(&self) -> u64 {
        self.round
    }

    /// Remembers `round`, which is durable.
    pub fn write(&mut self, round: u64) -> io::Result<()> {
        crate::failpoints::pass(crate::failpoints::BEACON_WRITE)?;
        assert!(round >= self.round, "the beacon never goes back");
        let slot = 1 - self.slot;
        self.file.write_all_at(&encode(self.incarnation, round), slot * SLOT_STRIDE)?;
        (self.round, self.slot) = (round, slot);
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn encode(incarnation: u64, round: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&incarnation.to_le_bytes());
    slot[16..24].copy_from_slice(&round.to_le_bytes());
    let crc = crc32fast::hash(&slot[..24]);
    slot[24..].copy_from_slice(&crc.to_le_bytes());
    slot
}

/// (incarnation, round)
fn decode(slot: &[u8; SLOT_BYTES]) -> Option<(u64, u64)> {
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&slot[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let intact = slot[..8] == MAGIC[..] && slot[24..] == crc32fast::hash(&slot[..24]).to_le_bytes();
    intact.then(|| (number(8), number(16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_older_one() {
        let dir = tempfile::tempdir().expect("directory");
        Beacon::create(dir.path(), 9).expect("create");
        let mut beacon = Beacon::open(dir.path(), 9).expect("open");
        beacon.write(5).expect("write");
        beacon.write(8).expect("write");
        let slot = beacon.slot;
        beacon.file.write_all_at(&[0; 9], slot * SLOT_STRIDE + 10).expect("damage");
        assert_eq!(Beacon::open(dir.path(), 9).expect("open").round(), 5);
        beacon.file.write_all_at(&[0; 9], (1 - slot) * SLOT_STRIDE + 10).expect("damage");
        assert!(matches!(Beacon::open(dir.path(), 9), Err(BeaconError::Damaged)));
    }

    #[test]
    fn the_beacon_of_another_directory_is_foreign() {
        let dir = tempfile::tempdir().expect("directory");
        Beacon::create(dir.path(), 9).expect("create");
        assert!(matches!(Beacon::open(dir.path(), 10), Err(BeaconError::Foreign)));
    }
}

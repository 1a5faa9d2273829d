//! Small facts in the database: a key, and a value with its own checksum.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes};
use crc32fast::Hasher;

use crate::error::OpenError;
use crate::store::{Batch, DIRECTORY, ScanError, Store};

/// The text of the identity file.
pub const IDENTITY: &str = "i/identity";
/// The number of the oldest round that is kept.
pub const FIRST_ROUND: &str = "i/first_round";
/// Facts of this crate's user.
const USER: &str = "m/";

pub fn put(store: &Store, key: &str, value: &[u8]) -> io::Result<()> {
    crate::failpoints::pass(crate::failpoints::META_WRITE)?;
    store.put_meta(key, &frame(key, value))
}

/// To be written together with the rest of the batch.
pub fn stage(store: &Store, batch: &mut Batch, key: &str, value: &[u8]) {
    store.stage_meta(batch, key, &frame(key, value));
}

pub fn put_user(store: &Store, key: &str, value: &[u8]) -> io::Result<()> {
    put(store, &format!("{USER}{key}"), value)
}

/// All facts on disk.
#[derive(Debug, Default)]
pub struct Facts {
    /// This crate's own.
    pub own: BTreeMap<String, Bytes>,
    pub user: BTreeMap<String, Bytes>,
}

pub fn load(store: &Store, dir: &Path) -> Result<Facts, OpenError> {
    let file = dir.join(DIRECTORY);
    let mut facts = Facts::default();
    for fact in store.scan_meta() {
        let (key, value) = fact.map_err(|error| scan_error(error, None, file.clone()))?;
        let (key, value) = unframe(&key, value).ok_or_else(|| OpenError::Corrupt {
            round: None,
            file: file.clone(),
            reason: "checksum of a small fact does not match".into(),
        })?;
        match key.strip_prefix(USER) {
            Some(key) => facts.user.insert(key.to_string(), value),
            None => facts.own.insert(key, value),
        };
    }
    Ok(facts)
}

pub fn scan_error(error: ScanError, round: Option<u64>, file: PathBuf) -> OpenError {
    match error {
        ScanError::Damaged(reason) => OpenError::Corrupt { round, file, reason },
        ScanError::Io(source) => OpenError::Engine { path: file, source },
    }
}

fn frame(key: &str, value: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(4 + value.len());
    framed.extend_from_slice(&checksum(key, value).to_le_bytes());
    framed.extend_from_slice(value);
    framed
}

fn unframe(key: &[u8], mut value: Bytes) -> Option<(String, Bytes)> {
    let key = String::from_utf8(key.to_vec()).ok()?;
    let stated = value.try_get_u32_le().ok()?;
    (stated == checksum(&key, &value)).then_some((key, value))
}

fn checksum(key: &str, value: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(value);
    hasher.finalize()
}

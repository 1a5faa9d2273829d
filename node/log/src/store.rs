//! RocksDB, and nothing of it outside this file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Direction, ErrorKind, FlushOptions, IteratorMode, LogLevel, Options,
    ReadOptions, WriteBatch, WriteOptions,
};

use crate::error::OpenError;
use crate::limits;

/// The database's own directory inside the data directory.
pub const DIRECTORY: &str = "db";
const LOG: &str = "log";
const META: &str = "meta";

pub struct Store {
    db: DB,
    path: PathBuf,
}

/// Records to be written together.
#[derive(Default)]
pub struct Batch {
    batch: WriteBatch,
}

/// A record that could not be read.
#[derive(Debug)]
pub enum ScanError {
    Damaged(String),
    Io(io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Create,
    Existing,
}

impl Store {
    pub fn open(dir: &Path, mode: Mode, memtable_bytes: usize) -> Result<Self, OpenError> {
        let path = dir.join(DIRECTORY);
        let family = |name| ColumnFamilyDescriptor::new(name, family_options(memtable_bytes));
        let families = [LOG, META].map(family);
        match DB::open_cf_descriptors(&database_options(dir, mode), &path, families) {
            Ok(db) => Ok(Self { db, path }),
            Err(error) => Err(refusal(dir, path, error)),
        }
    }

    pub fn put(&self, batch: &mut Batch, number: u64, record: &[u8]) {
        batch.batch.put_cf(self.family(LOG), number.to_be_bytes(), record);
    }

    pub fn stage_meta(&self, batch: &mut Batch, key: &str, value: &[u8]) {
        batch.batch.put_cf(self.family(META), key, value);
    }

    /// Deletes the records before `number` that are in memory still, with one tombstone, so that
    /// they never reach a file. What is in files goes with them: a tombstone over older files
    /// would make the engine rewrite all that are live. Until then single old records may be
    /// there, so whoever scans must start at the first round that is kept.
    pub fn delete_before(&self, batch: &mut Batch, number: u64) {
        let from = self.last_in_files().map_or(0, |last| last.saturating_add(1));
        if from < number {
            let (from, to) = (from.to_be_bytes(), number.to_be_bytes());
            batch.batch.delete_range_cf(self.family(LOG), from, to);
        }
    }

    /// Deletes the files that hold only records before `number`, without reading them, and lets
    /// go of old write-ahead logs: the small facts, whose buffer never fills, would hold on to
    /// all of them. (Flushing both families together would do that too, but in the engine that
    /// we link it fails an assertion now and then.)
    pub fn release_before(&self, number: u64) -> io::Result<()> {
        let (from, to) = (0u64.to_be_bytes(), number.saturating_sub(1).to_be_bytes());
        let mut in_background = FlushOptions::default();
        in_background.set_wait(false);
        self.db
            .delete_file_in_range_cf(self.family(LOG), from, to)
            .and_then(|()| self.db.flush_cf_opt(self.family(META), &in_background))
            .map_err(io::Error::other)
    }

    /// Durable when it returns without an error; after one, nobody knows.
    pub fn write(&self, batch: Batch) -> io::Result<()> {
        self.db.write_opt(batch.batch, &synced()).map_err(io::Error::other)
    }

    pub fn put_meta(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.db.put_cf_opt(self.family(META), key, value, &synced()).map_err(io::Error::other)
    }

    /// The records `from..=to` in order of their keys; ends early at the end of the log.
    pub fn scan(
        &self,
        from: u64,
        to: u64,
        use_of: Use,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes), ScanError>> + '_ {
        let mut options = ReadOptions::default();
        if let Some(end) = to.checked_add(1) {
            options.set_iterate_upper_bound(end.to_be_bytes().to_vec());
        }
        match use_of {
            Use::Range => {}
            Use::Once => {
                options.fill_cache(false);
                options.set_readahead_size(limits::SCAN_READ_AHEAD_BYTES);
            }
        }
        let start = from.to_be_bytes();
        let mode = IteratorMode::From(&start, Direction::Forward);
        pairs(self.db.iterator_cf_opt(self.family(LOG), options, mode))
    }

    pub fn scan_meta(&self) -> impl Iterator<Item = Result<(Bytes, Bytes), ScanError>> + '_ {
        pairs(self.db.iterator_cf(self.family(META), IteratorMode::Start))
    }

    pub fn flush(&self) -> io::Result<()> {
        for name in [LOG, META] {
            self.db.flush_cf(self.family(name)).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// The file that holds a round, as far as the engine tells; else the database's directory.
    pub fn file_of(&self, number: u64) -> PathBuf {
        let key = number.to_be_bytes().to_vec();
        let within = |bound: &Option<Vec<u8>>, low: bool| {
            bound.as_ref().is_some_and(|bound| if low { *bound <= key } else { *bound >= key })
        };
        let files = self.db.live_files().unwrap_or_default();
        let found = files.iter().find(|file| {
            file.column_family_name == LOG
                && within(&file.start_key, true)
                && within(&file.end_key, false)
        });
        found.map_or(self.path.clone(), |file| self.path.join(file.name.trim_start_matches('/')))
    }

    /// The newest record that is in a file.
    fn last_in_files(&self) -> Option<u64> {
        let files = self.db.live_files().unwrap_or_default();
        let of_log = files.iter().filter(|file| file.column_family_name == LOG);
        let last = |key: &Vec<u8>| key[..].try_into().ok().map(u64::from_be_bytes);
        of_log.filter_map(|file| file.end_key.as_ref().and_then(last)).max()
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("both families were opened with the database")
    }
}

/// What a scan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A range that may be read again soon.
    Range,
    /// A long stretch of the log, once.
    Once,
}

impl Batch {
    pub fn bytes(&self) -> u64 {
        self.batch.size_in_bytes() as u64
    }
}

type Pair = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

fn pairs(
    found: impl Iterator<Item = Pair>,
) -> impl Iterator<Item = Result<(Bytes, Bytes), ScanError>> {
    found.map(|pair| match pair {
        Ok((key, value)) => Ok((Bytes::from(key), Bytes::from(value))),
        Err(error) if error.kind() == ErrorKind::Corruption => {
            Err(ScanError::Damaged(error.into_string()))
        }
        Err(error) => Err(ScanError::Io(io::Error::other(error))),
    })
}

/// The only way that this crate writes.
fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn database_options(dir: &Path, mode: Mode) -> Options {
    let mut options = Options::default();
    let create = mode == Mode::Create;
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_paranoid_checks(true);
    // Safe after a crash, and refuses real damage: other modes open with a part of the log.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_max_total_wal_size(limits::WAL_BYTES_MAX);
    options.set_max_background_jobs(limits::BACKGROUND_JOBS);
    options.set_use_direct_io_for_flush_and_compaction(takes_direct_io(dir));
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options
}

fn family_options(memtable_bytes: usize) -> Options {
    let mut table = BlockBasedOptions::default();
    match Cache::new_lru_cache(limits::BLOCK_CACHE_BYTES) {
        Ok(cache) => table.set_block_cache(&cache),
        Err(_) => table.disable_cache(),
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(memtable_bytes);
    // Files of the log do not overlap: moving one down costs nothing, and only there can it be
    // dropped when all of it is trimmed.
    options.set_level_zero_file_num_compaction_trigger(1);
    options.set_max_write_buffer_number(limits::MEMTABLES_MAX);
    options.set_compression_type(DBCompressionType::None);
    options
}

/// A flush past the page cache leaves the disk's queue to the log's syncs. Memory file systems
/// do not take it.
fn takes_direct_io(dir: &Path) -> bool {
    let probe = dir.join("direct.probe");
    let taken = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_DIRECT)
        .open(&probe)
        .is_ok();
    // Absent or left behind makes no difference: the next probe takes its place.
    let _ = std::fs::remove_file(&probe);
    taken
}

fn refusal(dir: &Path, path: PathBuf, error: rocksdb::Error) -> OpenError {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::IOError if text.contains("lock") => OpenError::InUse { path: dir.to_path_buf() },
        // "Invalid argument" is how the engine says that its manifest or a family is missing.
        ErrorKind::Corruption | ErrorKind::InvalidArgument => {
            OpenError::Corrupt { round: None, file: path, reason: text }
        }
        _ => OpenError::Engine { path, source: io::Error::other(error) },
    }
}

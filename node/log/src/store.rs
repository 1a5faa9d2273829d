//! RocksDB, and nothing of it outside this file.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions,
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
    pub fn open(dir: &Path, mode: Mode) -> Result<Self, OpenError> {
        let path = dir.join(DIRECTORY);
        let families = [LOG, META].map(|name| ColumnFamilyDescriptor::new(name, family_options()));
        match DB::open_cf_descriptors(&database_options(dir, mode), &path, families) {
            Ok(db) => Ok(Self { db, path }),
            Err(error) => Err(refusal(dir, path, error)),
        }
    }

    pub fn put(&self, batch: &mut Batch, number: u64, record: &[u8]) {
        batch.batch.put_cf(self.family(LOG), number.to_be_bytes(), record);
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
            Use::Whole => {
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

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("both families were opened with the database")
    }
}

/// What a scan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A range that may be read again soon.
    Range,
    /// The whole log, once.
    Whole,
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

fn family_options() -> Options {
    let mut table = BlockBasedOptions::default();
    match Cache::new_lru_cache(limits::BLOCK_CACHE_BYTES) {
        Ok(cache) => table.set_block_cache(&cache),
        Err(_) => table.disable_cache(),
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(limits::MEMTABLE_BYTES);
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

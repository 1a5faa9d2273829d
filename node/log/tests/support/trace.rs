//! Every change that a process made to a directory, in order, as `strace` saw it; and the
//! directory as it was after each of them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// The calls that change a directory. The last ones are not used; if they ever are, reading the
/// trace fails instead of missing them.
pub const CALLS: &str = "openat,open,creat,write,pwrite64,ftruncate,truncate,fallocate,rename,\
    unlink,unlinkat,mkdir,rmdir,fdatasync,fsync,\
    writev,pwritev,pwritev2,renameat,renameat2,link,linkat,copy_file_range,sendfile";

#[derive(Debug)]
pub enum Change {
    Create {
        path: PathBuf,
        truncate: bool,
    },
    Write {
        path: PathBuf,
        at: u64,
        bytes: Vec<u8>,
    },
    Resize {
        path: PathBuf,
        length: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
    },
    /// Data of a file, or names of a directory.
    Sync {
        path: PathBuf,
    },
    /// A line that the process printed.
    Said(String),
}

/// The changes below `dir`, with paths relative to it.
pub fn read(trace: &Path, dir: &Path) -> Vec<Change> {
    let text = fs::read_to_string(trace).expect("the trace");
    let mut reader = Reader { dir: dir.to_path_buf(), positions: HashMap::new() };
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut changes = Vec::new();
    for line in text.lines() {
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(start) = call.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start);
        } else if let Some((_, rest)) = call.split_once(" resumed>") {
            let start = begun.remove(thread).expect("a call resumes that began");
            changes.extend(reader.change(&format!("{start}{rest}")));
        } else {
            changes.extend(reader.change(call));
        }
    }
    changes
}

struct Reader {
    dir: PathBuf,
    /// Where the next write of a file descriptor goes.
    positions: HashMap<u32, u64>,
}

impl Reader {
    /// `name(arguments) = result`; nothing if it failed or is about something else.
    fn change(&mut self, call: &str) -> Option<Change> {
        let (name, rest) = call.split_once('(')?;
        // Ends of processes and signals have no result.
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let arguments = arguments.trim_end().strip_suffix(')').expect("a whole call");
        if result.starts_with('-') || result.starts_with('?') {
            return None;
        }
        let arguments: Vec<&str> = arguments.split(", ").collect();
        if name == "write" && arguments[0].starts_with("1<") {
            let said = String::from_utf8(unescape(arguments[1])).expect("text");
            return Some(Change::Said(said.trim_end().to_string()));
        }
        if matches!(name, "openat" | "open" | "creat") {
            return self.open(name, &arguments, result);
        }
        let path = self.inside(&arguments)?;
        let number = |text: &str| text.parse::<u64>().expect("a number");
        match name {
            "write" => {
                let fd = descriptor(arguments[0]).expect("a descriptor");
                let bytes = written(arguments[1], result);
                let at = self
                    .positions
                    .get_mut(&fd)
                    .unwrap_or_else(|| panic!("written before it was opened: {call:.300}"));
                *at += bytes.len() as u64;
                Some(Change::Write { path, at: *at - bytes.len() as u64, bytes })
            }
            "pwrite64" => {
                let bytes = written(arguments[1], result);
                Some(Change::Write { path, at: number(arguments[3]), bytes })
            }
            "ftruncate" => Some(Change::Resize { path, length: number(arguments[1]) }),
            "fallocate" if arguments[1].contains("KEEP_SIZE") => None,
            "rename" => {
                let to = self.relative(&unescape_path(arguments[1]))?;
                Some(Change::Rename { from: path, to })
            }
            "unlink" | "unlinkat" | "rmdir" => Some(Change::Remove { path }),
            "mkdir" => Some(Change::MakeDirectory { path }),
            "fdatasync" | "fsync" => Some(Change::Sync { path }),
            other => panic!("{other} changes the directory and is not understood: {call:.200}"),
        }
    }

    fn open(&mut self, name: &str, arguments: &[&str], result: &str) -> Option<Change> {
        let (path, flags) = match name {
            "openat" => (arguments[1], arguments[2]),
            _ => (arguments[0], arguments.get(1).copied().unwrap_or("O_CREAT|O_TRUNC")),
        };
        let path = self.relative(&unescape_path(path))?;
        self.positions.insert(descriptor(result).expect("a descriptor"), 0);
        assert!(!flags.contains("O_APPEND") || flags.contains("O_CREAT"), "{flags}");
        let creates = flags.contains("O_CREAT") || flags.contains("O_TRUNC");
        creates.then(|| Change::Create { path, truncate: flags.contains("O_TRUNC") })
    }

    /// The file that a call is about, if it is below the directory.
    fn inside(&self, arguments: &[&str]) -> Option<PathBuf> {
        let quoted = arguments.iter().find(|argument| argument.starts_with('"'));
        let by_descriptor = arguments[0].split_once('<').map(|(_, path)| unescape_path(path));
        match (by_descriptor, arguments[0].starts_with("AT_FDCWD"), quoted) {
            (Some(path), false, _) => self.relative(&path),
            (_, _, Some(path)) => self.relative(&unescape_path(path)),
            _ => None,
        }
    }

    fn relative(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.dir).ok().map(Path::to_path_buf)
    }
}

fn descriptor(text: &str) -> Option<u32> {
    text.split('<').next()?.trim().parse().ok()
}

/// What a write wrote, which may be less than it was given.
fn written(argument: &str, result: &str) -> Vec<u8> {
    assert!(!argument.ends_with("..."), "the trace cut a write short");
    let mut bytes = unescape(argument);
    bytes.truncate(result.split(' ').next().and_then(|n| n.parse().ok()).expect("a length"));
    bytes
}

fn unescape_path(text: &str) -> PathBuf {
    let text = text.trim_end_matches("(deleted)").trim_end_matches('>');
    PathBuf::from(String::from_utf8(unescape(text)).expect("a path"))
}

/// `\x41\x42` is `AB`.
fn unescape(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('"').split("\\x").skip(1);
    digits.map(|digits| u8::from_str_radix(&digits[..2], 16).expect("two digits")).collect()
}

/// A directory in memory: what the files hold, and what of it a loss of power would leave.
#[derive(Default)]
pub struct Disk {
    files: BTreeMap<PathBuf, File>,
    directories: Vec<PathBuf>,
}

#[derive(Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Killed,
    /// Names survive, and of the data what was synced.
    PowerLost,
}

impl Disk {
    /// False if nothing changed.
    pub fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Create { path, truncate } => {
                let known = self.files.contains_key(path);
                let file = self.files.entry(path.clone()).or_default();
                if *truncate {
                    file.bytes.clear();
                }
                return *truncate || !known;
            }
            Change::Write { path, at, bytes } => {
                let file = self.file(path);
                let at = usize::try_from(*at).expect("small files");
                file.bytes.resize(file.bytes.len().max(at + bytes.len()), 0);
                file.bytes[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Change::Resize { path, length } => {
                self.file(path).bytes.resize(usize::try_from(*length).expect("small files"), 0);
            }
            Change::Rename { from, to } => {
                let file = self.files.remove(from).expect("a file that is renamed is known");
                self.files.insert(to.clone(), file);
            }
            // One that was deleted may still be written.
            Change::Remove { path } => return self.files.remove(path).is_some(),
            Change::MakeDirectory { path } => self.directories.push(path.clone()),
            Change::Sync { path } => {
                let Some(file) = self.files.get_mut(path) else { return false };
                file.synced.clone_from(&file.bytes);
            }
            Change::Said(_) => return false,
        }
        true
    }

    pub fn write(&self, to: &Path, end: End) {
        for directory in &self.directories {
            fs::create_dir_all(to.join(directory)).expect("directory");
        }
        for (path, file) in &self.files {
            let bytes = match end {
                End::Killed => &file.bytes,
                End::PowerLost => &file.synced,
            };
            fs::write(to.join(path), bytes).expect("write");
        }
    }

    fn file(&mut self, path: &Path) -> &mut File {
        self.files.entry(path.to_path_buf()).or_default()
    }
}

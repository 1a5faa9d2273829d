//! The inputs that are checked in: a folder for each target.

use crate::Target;
use std::path::PathBuf;
use std::{fs, io};

fn folder(target: &Target) -> PathBuf {
    // Asked when the program runs: a cache of builds may hold one that another checkout made.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| "tests/fuzz".into());
    PathBuf::from(here).join("corpus").join(target.name)
}

/// Name and bytes of every input, ordered by name.
pub fn load(target: &Target) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for file in fs::read_dir(folder(target))? {
        let file = file?;
        inputs.push((file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Writes what real encodings look like.
pub fn write_seeds(target: &Target) -> io::Result<()> {
    fs::create_dir_all(folder(target))?;
    for (name, bytes) in (target.seeds)() {
        fs::write(folder(target).join(name), bytes)?;
    }
    Ok(())
}

/// Keeps what failed; returns where.
pub fn keep(target: &Target, input: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(folder(target))?;
    let mut name = 0xcbf2_9ce4_8422_2325_u64;
    for byte in input {
        name = (name ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let path = folder(target).join(format!("failed-{name:016x}"));
    fs::write(&path, input)?;
    Ok(path)
}

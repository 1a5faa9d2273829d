//! The identity file: whose directory this is, in a form that a person can read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::OpenError;
use crate::limits::{FORMAT, IDENTITY_BYTES_MAX};
use crate::round::Identity;

pub const FILE: &str = "IDENTITY";
const FILE_NEW: &str = "IDENTITY.new";
const COMMENT: &str = "# Identity of this data directory. Never edit, copy or move it.\n";

/// The file's text; the database keeps the same.
pub fn encode(identity: &Identity) -> String {
    let body = format!(
        "{COMMENT}format: {}\nnode_id: {}\nincarnation: {}\ncluster_id: {:?}\n",
        identity.format, identity.node_id, identity.incarnation, identity.cluster_id
    );
    format!("{body}checksum: {:08x}\n", crc32fast::hash(body.as_bytes()))
}

/// A cluster id is written between quotes, so it must not need any escaping.
pub fn is_plain(cluster_id: &str) -> bool {
    format!("{cluster_id:?}").len() == cluster_id.len() + 2
}

pub fn decode(text: &str, file: &Path) -> Result<Identity, OpenError> {
    let wrong = |reason: &str| OpenError::Identity {
        file: file.to_path_buf(),
        reason: reason.into(),
        remedy: "do not repair it by hand: remove the member and let a new node take its place",
    };
    let (body, checksum) = text.rsplit_once("checksum: ").ok_or_else(|| wrong("not complete"))?;
    let stated = u32::from_str_radix(checksum.trim_end(), 16).ok();
    if stated != Some(crc32fast::hash(body.as_bytes())) {
        return Err(wrong("checksum does not match"));
    }
    let field = |name: &str| {
        let mut lines = body.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.ok_or_else(|| wrong(&format!("{name} is missing")))
    };
    let number = |name: &str| {
        field(name)?.parse::<u64>().map_err(|_| wrong(&format!("{name} is not a number")))
    };
    let format = u32::try_from(number("format")?).map_err(|_| wrong("format is not a number"))?;
    if format > FORMAT {
        return Err(OpenError::Format { file: file.to_path_buf(), found: format, known: FORMAT });
    }
    let cluster_id = field("cluster_id")?.trim_matches('"').to_string();
    let identity = Identity {
        node_id: number("node_id")?,
        incarnation: number("incarnation")?,
        cluster_id,
        format,
    };
    if identity.node_id == 0 || identity.incarnation == 0 {
        return Err(wrong("an id is 0"));
    }
    Ok(identity)
}

pub fn read(dir: &Path) -> Result<Identity, OpenError> {
    let path = dir.join(FILE);
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(IDENTITY_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| OpenError::Directory { path: path.clone(), source })?;
    decode(&text, &path)
}

/// Replaces the file in one step and makes that durable.
pub fn write(dir: &Path, identity: &Identity) -> io::Result<()> {
    let path = dir.join(FILE_NEW);
    let mut file = File::create(&path)?;
    file.write_all(encode(identity).as_bytes())?;
    file.sync_all()?;
    fs::rename(&path, dir.join(FILE))?;
    sync_directory(dir)
}

/// Makes the names in a directory durable.
pub fn sync_directory(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { node_id: 7, incarnation: 8, cluster_id: "shop/orders".into(), format: FORMAT }
    }

    #[test]
    fn the_text_gives_back_the_identity() {
        let file = Path::new("IDENTITY");
        assert_eq!(decode(&encode(&identity()), file).expect("decodes"), identity());
        let unnamed = Identity { cluster_id: String::new(), ..identity() };
        assert_eq!(decode(&encode(&unnamed), file).expect("decodes"), unnamed);
    }

    #[test]
    fn an_edited_file_is_refused() {
        let text = encode(&identity()).replace("node_id: 7", "node_id: 9");
        let error = decode(&text, Path::new("IDENTITY")).expect_err("edited");
        assert!(error.to_string().contains("checksum does not match"), "{error}");
    }

    #[test]
    fn a_newer_format_is_named() {
        let newer = Identity { format: FORMAT + 1, ..identity() };
        let error = decode(&encode(&newer), Path::new("IDENTITY")).expect_err("newer");
        assert!(matches!(error, OpenError::Format { found, .. } if found == FORMAT + 1));
    }
}

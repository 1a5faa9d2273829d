//! The bytes of a snapshot's file: a format that outlives releases.
//!
//! ```text
//! magic          8 bytes  "MRSNAPS1"
//! format         u32      1
//! group          u32
//! index, term    u64 each Raft index and term of the last entry that the state contains
//! configuration  u32 length, bytes
//! crc            u32      of all before
//! chunks         each: length u32 (never 0), crc u32, bytes
//! end            0 u32, chunks u64, length of the file u64, crc u32 of all before
//! ```
//! Numbers are little-endian, every crc is a CRC-32. A chunk's covers its position (u64) and its
//! length too, so that chunks that were exchanged or repeated are noticed when they are read.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;

use super::SnapshotId;
use crate::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_CONFIGURATION_BYTES_MAX};

pub const FORMAT: u32 = 1;
const MAGIC: &[u8; 8] = b"MRSNAPS1";
/// Up to the length of the configuration, and with it.
const HEAD_BYTES: usize = 36;
/// Memory that is taken at once for bytes that may not be there.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// What follows the chunks.
pub const END_BYTES: usize = 24;

/// Why bytes are not a snapshot.
#[derive(Debug)]
pub enum Fault {
    Io(io::Error),
    Damaged(&'static str),
    Newer(u32),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("ends too early"),
            _ => Self::Io(error),
        }
    }
}

/// Length and checksum of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    pub length: u64,
    pub crc: u32,
}

/// Writes a file from its start to its end.
pub struct Encoder<W> {
    output: W,
    hasher: Hasher,
    length: u64,
    chunks: u64,
}

impl<W: Write> Encoder<W> {
    pub fn new(output: W, id: SnapshotId, configuration: &[u8]) -> io::Result<Self> {
        let mut encoder = Self { output, hasher: Hasher::new(), length: 0, chunks: 0 };
        let mut head = Vec::with_capacity(HEAD_BYTES + configuration.len() + 4);
        head.put_slice(MAGIC);
        head.put_u32_le(FORMAT);
        head.put_u32_le(id.group);
        head.put_u64_le(id.index);
        head.put_u64_le(id.term);
        head.put_u32_le(length_of(configuration));
        head.put_slice(configuration);
        let crc = crc32fast::hash(&head);
        head.put_u32_le(crc);
        encoder.write(&head)?;
        Ok(encoder)
    }

    /// `chunk` is neither empty nor over the limit: an empty one would read as the end.
    pub fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        debug_assert!(!chunk.is_empty() && chunk.len() <= SNAPSHOT_CHUNK_BYTES_MAX);
        let mut head = Vec::with_capacity(8);
        head.put_u32_le(length_of(chunk));
        head.put_u32_le(chunk_crc(self.chunks, chunk));
        self.chunks += 1;
        self.write(&head)?;
        self.write(chunk)
    }

    pub fn finish(mut self) -> io::Result<(W, Sum)> {
        let mut end = Vec::with_capacity(END_BYTES);
        end.put_u32_le(0);
        end.put_u64_le(self.chunks);
        end.put_u64_le(self.length + END_BYTES as u64);
        self.write(&end)?;
        let crc = self.hasher.clone().finalize();
        self.write(&crc.to_le_bytes())?;
        self.output.flush()?;
        Ok((self.output, Sum { length: self.length, crc }))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// What a file says before its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub id: SnapshotId,
    pub configuration: Bytes,
}

/// Reads a file from its start to its end and believes nothing of it unverified.
#[derive(Debug)]
pub struct Decoder<R> {
    input: R,
    hasher: Hasher,
    length: u64,
    chunks: u64,
}

impl<R: Read> Decoder<R> {
    pub fn new(input: R) -> Result<(Self, Header), Fault> {
        let mut decoder = Self { input, hasher: Hasher::new(), length: 0, chunks: 0 };
        let mut head = decoder.take(HEAD_BYTES)?;
        if head.split_to(MAGIC.len())[..] != MAGIC[..] {
            return Err(Fault::Damaged("does not start as a snapshot"));
        }
        let format = head.get_u32_le();
        let id = SnapshotId {
            group: head.get_u32_le(),
            index: head.get_u64_le(),
            term: head.get_u64_le(),
        };
        let configuration = head.get_u32_le() as usize;
        if format > FORMAT {
            return Err(Fault::Newer(format));
        }
        if configuration > SNAPSHOT_CONFIGURATION_BYTES_MAX {
            return Err(Fault::Damaged("length of the configuration is over the limit"));
        }
        let configuration = decoder.take(configuration)?;
        let expected = decoder.hasher.clone().finalize();
        if format != FORMAT || decoder.take(4)?.get_u32_le() != expected {
            return Err(Fault::Damaged("checksum of the header does not match"));
        }
        Ok((decoder, Header { id, configuration }))
    }

    /// The next chunk, or nothing after the end, which is verified like all else.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        let length = self.take(4)?.get_u32_le() as usize;
        if length == 0 {
            return self.end().map(|()| None);
        }
        if length > SNAPSHOT_CHUNK_BYTES_MAX {
            return Err(Fault::Damaged("length of a chunk is over the limit"));
        }
        let stated = self.take(4)?.get_u32_le();
        let chunk = self.take(length)?;
        if stated != chunk_crc(self.chunks, &chunk) {
            return Err(Fault::Damaged("checksum of a chunk does not match"));
        }
        self.chunks += 1;
        Ok(Some(chunk))
    }

    /// Length and checksum as far as the file was read; after the last chunk, those that the
    /// file's end states.
    pub fn sum(&self) -> Sum {
        Sum { length: self.length, crc: self.hasher.clone().finalize() }
    }

    fn end(&mut self) -> Result<(), Fault> {
        let (chunks, length) = (self.take(8)?.get_u64_le(), self.take(8)?.get_u64_le());
        let Sum { crc: expected, .. } = self.sum();
        let mut crc = [0; 4];
        self.input.read_exact(&mut crc)?;
        self.length += 4;
        if chunks != self.chunks || length != self.length || u32::from_le_bytes(crc) != expected {
            return Err(Fault::Damaged("its end does not match what is before it"));
        }
        match self.input.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Fault::Damaged("bytes after the end")),
        }
    }

    /// Takes memory for what is there, not for what a damaged length announces.
    fn read(&mut self, bytes: usize) -> Result<Vec<u8>, Fault> {
        let mut read = Vec::with_capacity(bytes.min(READ_AHEAD_BYTES));
        self.input.by_ref().take(bytes as u64).read_to_end(&mut read)?;
        match read.len() == bytes {
            true => Ok(read),
            false => Err(Fault::Damaged("ends too early")),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, Fault> {
        let taken = self.read(bytes)?;
        self.hasher.update(&taken);
        self.length += bytes as u64;
        Ok(Bytes::from(taken))
    }
}

/// What the end of a file says of the whole.
pub fn decode_end(mut end: &[u8]) -> Option<Sum> {
    if end.len() != END_BYTES || end.get_u32_le() != 0 {
        return None;
    }
    let _chunks = end.get_u64_le();
    Some(Sum { length: end.get_u64_le(), crc: end.get_u32_le() })
}

fn chunk_crc(position: u64, chunk: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(&length_of(chunk).to_le_bytes());
    hasher.update(chunk);
    hasher.finalize()
}

/// Chunks and configurations are held under their limits before they come here.
fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("checked against the limits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SnapshotId = SnapshotId { group: 7, index: 1200, term: 3 };

    fn file(chunks: &[&[u8]]) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), ID, b"members").expect("in memory");
        for chunk in chunks {
            encoder.push(chunk).expect("in memory");
        }
        let (bytes, sum) = encoder.finish().expect("in memory");
        assert_eq!(decode_end(&bytes[bytes.len() - END_BYTES..]), Some(sum));
        assert_eq!(sum.length, bytes.len() as u64);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Header, Vec<Bytes>), Fault> {
        let (mut decoder, header) = Decoder::new(bytes)?;
        let mut chunks = Vec::new();
        while let Some(chunk) = decoder.next_chunk()? {
            chunks.push(chunk);
        }
        Ok((header, chunks))
    }

    #[test]
    fn a_file_gives_back_its_chunks() {
        let (header, chunks) = read(&file(&[b"one", b"two"])).expect("whole");
        assert_eq!((header.id, &header.configuration[..]), (ID, &b"members"[..]));
        assert_eq!(chunks, [&b"one"[..], b"two"]);
        assert_eq!(read(&file(&[])).expect("whole").1.len(), 0);
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let whole = file(&[b"one", b"two"]);
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_and_every_addition_is_refused() {
        let whole = file(&[b"one", b"two"]);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
        let longer = [&whole[..], b"x"].concat();
        assert!(matches!(read(&longer), Err(Fault::Damaged("bytes after the end"))));
    }

    #[test]
    fn exchanged_chunks_are_refused_before_the_end() {
        let whole = file(&[b"one", b"two"]);
        let start = whole.len() - END_BYTES - 22;
        let mut bad = whole.clone();
        bad[start..start + 11].copy_from_slice(&whole[start + 11..start + 22]);
        bad[start + 11..start + 22].copy_from_slice(&whole[start..start + 11]);
        let (mut decoder, _) = Decoder::new(&bad[..]).expect("the header is whole");
        assert!(decoder.next_chunk().is_err());
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut newer = file(&[]);
        newer[8] = 2;
        assert!(matches!(read(&newer), Err(Fault::Newer(2))));
    }

    #[test]
    fn the_format_of_release_1_is_written_and_read() {
        let golden = concat!(
            "4d52534e415053310100000007000000b0040000000000000300000000000000070000006d656d62",
            "6572738f5edb0603000000994616636f6e6503000000e6914bb174776f0000000002000000000000",
            "005d0000000000000054b5b366",
        );
        let bytes = file(&[b"one", b"two"]);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden, "the format of snapshots changed");
    }
}

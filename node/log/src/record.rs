//! The record of a round: a format that outlives releases.
//!
//! ```text
//! format   u8     1; 2 is a checkpoint
//! crc      u32    CRC-32 of the round's number (8 bytes, big-endian) and of all that follows
//! groups   u32    count
//! peers    u32    count
//! directory       per group: group u32, bytes of its part u32
//! parts           per group: flags u8, then what the flags name, in the order of the flags
//!   1 state       term u64, vote u64, commit u64
//!   2 first       index u64, term u64
//!   4 config      applied u64, length u32, bytes
//!   8 entries     count u32, index of the first u64; each: term u64, kind u8,
//!                 data length u32, context length u32, data, context
//!  16 delete
//! peers           each: node u64, incarnation u64, group u32, term u64, index u64
//! ```
//! Numbers are little-endian. The directory lets a reader of one group skip the others.

mod checkpoint;

use bytes::{Buf, BufMut, Bytes};
use crc32fast::Hasher;

use crate::round::{Entry, GroupRound, HardState, PeerMemory, Round, StoredConfig};

pub use checkpoint::{Checkpoint, encode as encode_checkpoint};

const ROUND: u8 = 1;
const CHECKPOINT: u8 = 2;
/// Format and checksum.
pub(crate) const HEAD_BYTES: usize = 5;

const STATE: u8 = 1;
const FIRST: u8 = 2;
const CONFIG: u8 = 4;
const ENTRIES: u8 = 8;
const DELETE: u8 = 16;

/// Why bytes are not a record.
pub type Damage = &'static str;
const SHORT: Damage = "record ends too early";
const LONG: Damage = "bytes after the end of the record";

/// What a record holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    Round(Round),
    Checkpoint(Checkpoint),
}

pub fn encode(number: u64, round: &Round) -> Vec<u8> {
    let mut out = Vec::with_capacity(size_hint(round));
    out.put_bytes(0, HEAD_BYTES);
    out.put_u32_le(length(round.groups.len()));
    out.put_u32_le(length(round.peers.len()));
    let directory = out.len();
    out.put_bytes(0, 8 * round.groups.len());
    for (position, part) in round.groups.iter().enumerate() {
        let start = out.len();
        encode_part(&mut out, part);
        let bytes = length(out.len() - start);
        let mut slot = &mut out[directory + 8 * position..];
        slot.put_u32_le(part.group);
        slot.put_u32_le(bytes);
    }
    for peer in &round.peers {
        encode_peer(&mut out, peer);
    }
    seal(out, ROUND, number)
}

/// Fills the head of a record, for which `HEAD_BYTES` were left free.
pub(crate) fn seal(mut out: Vec<u8>, format: u8, number: u64) -> Vec<u8> {
    let crc = checksum(number, format, &out[HEAD_BYTES..]);
    out[0] = format;
    out[1..HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    out
}

/// The whole record; its bytes share the record's memory.
pub fn decode(number: u64, record: Bytes) -> Result<Record, Damage> {
    let (format, rest) = verify(number, record)?;
    match format {
        CHECKPOINT => checkpoint::decode(rest).map(Record::Checkpoint),
        _ => decode_round(rest).map(Record::Round),
    }
}

fn decode_round(rest: Bytes) -> Result<Round, Damage> {
    let Opened { mut rest, parts, peers } = open(rest)?;
    let mut round = Round::default();
    for (group, bytes) in parts {
        round.groups.push(decode_part(group, take(&mut rest, bytes)?)?);
    }
    for _ in 0..peers {
        round.peers.push(decode_peer(&mut rest)?);
    }
    if rest.has_remaining() { Err(LONG) } else { Ok(round) }
}

/// The parts of one group; the others are not looked at, but the whole record's checksum is.
pub fn decode_group(number: u64, record: Bytes, wanted: u32) -> Result<Vec<GroupRound>, Damage> {
    let (format, rest) = verify(number, record)?;
    let mut found = Vec::new();
    if format == CHECKPOINT {
        return Ok(found);
    }
    let Opened { mut rest, parts, .. } = open(rest)?;
    for (group, bytes) in parts {
        let part = take(&mut rest, bytes)?;
        if group == wanted {
            found.push(decode_part(group, part)?);
        }
    }
    Ok(found)
}

/// The format of a record, and what follows its checksum, which is right.
fn verify(number: u64, mut record: Bytes) -> Result<(u8, Bytes), Damage> {
    let format = record.try_get_u8().map_err(|_| SHORT)?;
    if ![ROUND, CHECKPOINT].contains(&format) {
        return Err("unknown format of a record");
    }
    let crc = u32_of(&mut record)?;
    if crc != checksum(number, format, &record) {
        return Err("checksum does not match");
    }
    Ok((format, record))
}

/// A round before its parts are looked at.
struct Opened {
    /// The parts, then the peers.
    rest: Bytes,
    /// Group and bytes of each part.
    parts: Vec<(u32, usize)>,
    peers: u32,
}

fn open(mut record: Bytes) -> Result<Opened, Damage> {
    let groups = u32_of(&mut record)? as usize;
    let peers = u32_of(&mut record)?;
    if record.len() / 8 < groups {
        return Err(SHORT);
    }
    let mut parts = Vec::with_capacity(groups);
    for _ in 0..groups {
        parts.push((u32_of(&mut record)?, u32_of(&mut record)? as usize));
    }
    Ok(Opened { rest: record, parts, peers })
}

fn encode_part(out: &mut Vec<u8>, part: &GroupRound) {
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.put_u8(
        flag(part.state.is_some(), STATE)
            | flag(part.first.is_some(), FIRST)
            | flag(part.config.is_some(), CONFIG)
            | flag(!part.entries.is_empty(), ENTRIES)
            | flag(part.delete, DELETE),
    );
    if let Some(state) = part.state {
        encode_state(out, state);
    }
    if let Some((index, term)) = part.first {
        out.put_u64_le(index);
        out.put_u64_le(term);
    }
    if let Some(config) = &part.config {
        encode_config(out, config);
    }
    let Some(first) = part.entries.first() else { return };
    out.put_u32_le(length(part.entries.len()));
    out.put_u64_le(first.index);
    for entry in &part.entries {
        out.put_u64_le(entry.term);
        out.put_u8(entry.kind);
        out.put_u32_le(length(entry.data.len()));
        out.put_u32_le(length(entry.context.len()));
        out.put_slice(&entry.data);
        out.put_slice(&entry.context);
    }
}

fn decode_part(group: u32, mut part: Bytes) -> Result<GroupRound, Damage> {
    let flags = part.try_get_u8().map_err(|_| SHORT)?;
    if flags & !(STATE | FIRST | CONFIG | ENTRIES | DELETE) != 0 {
        return Err("unknown flags of a group");
    }
    let mut round = GroupRound { group, delete: flags & DELETE != 0, ..GroupRound::default() };
    if flags & STATE != 0 {
        round.state = Some(decode_state(&mut part)?);
    }
    if flags & FIRST != 0 {
        round.first = Some((u64_of(&mut part)?, u64_of(&mut part)?));
    }
    if flags & CONFIG != 0 {
        round.config = Some(decode_config(&mut part)?);
    }
    if flags & ENTRIES != 0 {
        round.entries = decode_entries(&mut part)?;
    }
    if part.has_remaining() { Err("bytes after the end of a group") } else { Ok(round) }
}

fn decode_entries(part: &mut Bytes) -> Result<Vec<Entry>, Damage> {
    let count = u32_of(part)?;
    let first = u64_of(part)?;
    let mut entries = Vec::new();
    for offset in 0..u64::from(count) {
        let index = first.checked_add(offset).ok_or("index overflows")?;
        let term = u64_of(part)?;
        let kind = part.try_get_u8().map_err(|_| SHORT)?;
        let (data, context) = (u32_of(part)? as usize, u32_of(part)? as usize);
        let data = take(part, data)?;
        entries.push(Entry { index, term, kind, data, context: take(part, context)? });
    }
    Ok(entries)
}

fn encode_peer(out: &mut Vec<u8>, peer: &PeerMemory) {
    out.put_u64_le(peer.node);
    out.put_u64_le(peer.incarnation);
    out.put_u32_le(peer.group);
    out.put_u64_le(peer.term);
    out.put_u64_le(peer.index);
}

fn decode_peer(from: &mut Bytes) -> Result<PeerMemory, Damage> {
    Ok(PeerMemory {
        node: u64_of(from)?,
        incarnation: u64_of(from)?,
        group: u32_of(from)?,
        term: u64_of(from)?,
        index: u64_of(from)?,
    })
}

fn encode_state(out: &mut Vec<u8>, state: HardState) {
    out.put_u64_le(state.term);
    out.put_u64_le(state.vote);
    out.put_u64_le(state.commit);
}

fn decode_state(from: &mut Bytes) -> Result<HardState, Damage> {
    Ok(HardState { term: u64_of(from)?, vote: u64_of(from)?, commit: u64_of(from)? })
}

fn encode_config(out: &mut Vec<u8>, config: &StoredConfig) {
    out.put_u64_le(config.applied);
    out.put_u32_le(length(config.bytes.len()));
    out.put_slice(&config.bytes);
}

fn decode_config(from: &mut Bytes) -> Result<StoredConfig, Damage> {
    let applied = u64_of(from)?;
    let bytes = u32_of(from)? as usize;
    Ok(StoredConfig { applied, bytes: take(from, bytes)? })
}

/// The number is covered too, so that a record under another number is noticed.
fn checksum(number: u64, format: u8, rest: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&number.to_be_bytes());
    if format != ROUND {
        hasher.update(&[format]);
    }
    hasher.update(rest);
    hasher.finalize()
}

/// Bytes of an entry in a record.
pub fn entry_bytes(entry: &Entry) -> usize {
    17 + entry.data.len() + entry.context.len()
}

pub fn size_hint(round: &Round) -> usize {
    let part = |part: &GroupRound| {
        let config = part.config.as_ref().map_or(0, |config| config.bytes.len());
        let entries: usize = part.entries.iter().map(entry_bytes).sum();
        80 + config + entries
    };
    16 + 36 * round.peers.len() + round.groups.iter().map(part).sum::<usize>()
}

/// Lengths are held under `RECORD_BYTES_MAX` before a round is encoded.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a round was checked against RECORD_BYTES_MAX")
}

fn take(from: &mut Bytes, bytes: usize) -> Result<Bytes, Damage> {
    if from.len() < bytes { Err(SHORT) } else { Ok(from.split_to(bytes)) }
}

fn u32_of(from: &mut Bytes) -> Result<u32, Damage> {
    from.try_get_u32_le().map_err(|_| SHORT)
}

fn u64_of(from: &mut Bytes) -> Result<u64, Damage> {
    from.try_get_u64_le().map_err(|_| SHORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round() -> Round {
        let entry = |index| Entry {
            index,
            term: 3,
            kind: 1,
            data: Bytes::from_static(b"data"),
            context: Bytes::from_static(b"ctx"),
        };
        let part = GroupRound {
            group: 7,
            state: Some(HardState { term: 3, vote: 2, commit: 8 }),
            first: Some((5, 2)),
            config: Some(StoredConfig { applied: 4, bytes: Bytes::from_static(b"members") }),
            entries: vec![entry(9), entry(10)],
            delete: false,
        };
        let gone = GroupRound { group: 8, delete: true, ..GroupRound::default() };
        let peer = PeerMemory { node: 1, incarnation: 2, group: 7, term: 3, index: 9 };
        Round { groups: vec![part, gone], peers: vec![peer] }
    }

    #[test]
    fn a_record_gives_back_its_round() {
        let record = Bytes::from(encode(12, &round()));
        assert_eq!(decode(12, record.clone()), Ok(Record::Round(round())));
        assert_eq!(decode_group(12, record.clone(), 7), Ok(vec![round().groups[0].clone()]));
        assert_eq!(decode_group(12, record, 6), Ok(vec![]));
    }

    #[test]
    fn the_size_hint_is_not_exceeded() {
        assert!(encode(12, &round()).len() <= size_hint(&round()));
    }

    #[test]
    fn a_record_under_another_number_is_refused() {
        let record = Bytes::from(encode(12, &round()));
        assert_eq!(decode(13, record), Err("checksum does not match"));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let record = encode(12, &round());
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(12, Bytes::from(bad)).is_err(), "bit {bit}");
        }
        for bytes in 0..record.len() {
            assert!(decode(12, Bytes::from(record[..bytes].to_vec())).is_err(), "cut at {bytes}");
        }
    }

    #[test]
    fn the_format_of_release_1_is_read() {
        let golden = "01ca5d24e3020000000100000007000000780000000800000001000000";
        let record = encode(12, &round());
        let head: String = record[..29].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(head, golden, "the record's format changed");
    }
}

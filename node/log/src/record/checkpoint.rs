//! The record of a checkpoint: all that the rounds before it said, but for the entries.
//!
//! A log that lost its oldest rounds to trimming starts at one, and every rule that rounds keep
//! can be judged from there on. One in the middle of a log must agree with what is before it.
//!
//! ```text
//! format   u8     2
//! crc      u32    CRC-32 of the round's number (8 bytes, big-endian), the format and the rest
//! groups   u32    count
//! peers    u32    count
//! groups          each: group u32, state (term, vote, commit u64), first (index, term u64),
//!                 last index u64, runs of terms u32, each: index u64, term u64,
//!                 configuration u8: 0 none, 1: applied u64, length u32, bytes
//! peers           as in a round
//! ```

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};

use super::{
    CHECKPOINT, Damage, HEAD_BYTES, LONG, SHORT, decode_config, decode_peer, decode_state,
    encode_config, encode_peer, encode_state, length, seal, u32_of, u64_of,
};
use crate::round::{PeerMemory, RecoveredGroup};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    pub groups: BTreeMap<u32, RecoveredGroup>,
    pub peers: Vec<PeerMemory>,
}

pub fn encode<'a>(
    number: u64,
    groups: &BTreeMap<u32, RecoveredGroup>,
    peers: impl ExactSizeIterator<Item = &'a PeerMemory>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + 8 + 128 * groups.len() + 36 * peers.len());
    out.put_bytes(0, HEAD_BYTES);
    out.put_u32_le(length(groups.len()));
    out.put_u32_le(length(peers.len()));
    for (id, group) in groups {
        out.put_u32_le(*id);
        encode_group(&mut out, group);
    }
    for peer in peers {
        encode_peer(&mut out, peer);
    }
    seal(out, CHECKPOINT, number)
}

pub fn decode(mut rest: Bytes) -> Result<Checkpoint, Damage> {
    let (groups, peers) = (u32_of(&mut rest)?, u32_of(&mut rest)?);
    let mut checkpoint = Checkpoint::default();
    for _ in 0..groups {
        let id = u32_of(&mut rest)?;
        checkpoint.groups.insert(id, decode_group(&mut rest)?);
    }
    for _ in 0..peers {
        checkpoint.peers.push(decode_peer(&mut rest)?);
    }
    if rest.has_remaining() { Err(LONG) } else { Ok(checkpoint) }
}

fn encode_group(out: &mut Vec<u8>, group: &RecoveredGroup) {
    encode_state(out, group.state);
    out.put_u64_le(group.first.0);
    out.put_u64_le(group.first.1);
    out.put_u64_le(group.last_index);
    out.put_u32_le(length(group.terms.len()));
    for (index, term) in &group.terms {
        out.put_u64_le(*index);
        out.put_u64_le(*term);
    }
    out.put_u8(u8::from(group.config.is_some()));
    if let Some(config) = &group.config {
        encode_config(out, config);
    }
}

fn decode_group(from: &mut Bytes) -> Result<RecoveredGroup, Damage> {
    let mut group = RecoveredGroup {
        state: decode_state(from)?,
        first: (u64_of(from)?, u64_of(from)?),
        last_index: u64_of(from)?,
        ..RecoveredGroup::default()
    };
    for _ in 0..u32_of(from)? {
        group.terms.push((u64_of(from)?, u64_of(from)?));
    }
    if from.try_get_u8().map_err(|_| SHORT)? == 1 {
        group.config = Some(decode_config(from)?);
    }
    Ok(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Record, decode, decode_group};
    use crate::round::{HardState, StoredConfig};

    fn checkpoint() -> Checkpoint {
        let group = RecoveredGroup {
            state: HardState { term: 5, vote: 2, commit: 12 },
            first: (10, 3),
            last_index: 14,
            terms: vec![(10, 3), (12, 5)],
            config: Some(StoredConfig { applied: 9, bytes: Bytes::from_static(b"members") }),
        };
        let fresh = RecoveredGroup { first: (1, 0), ..RecoveredGroup::default() };
        let peer = PeerMemory { node: 1, incarnation: 2, group: 7, term: 3, index: 9 };
        Checkpoint { groups: BTreeMap::from([(7, group), (8, fresh)]), peers: vec![peer] }
    }

    fn record() -> Vec<u8> {
        encode(12, &checkpoint().groups, checkpoint().peers.iter())
    }

    #[test]
    fn a_record_gives_back_its_checkpoint() {
        let record = Bytes::from(record());
        assert_eq!(decode(12, record.clone()), Ok(Record::Checkpoint(checkpoint())));
        assert_eq!(decode_group(12, record.clone(), 7), Ok(vec![]));
        assert_eq!(decode(13, record), Err("checksum does not match"));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let record = record();
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
    fn a_checkpoint_is_not_taken_for_a_round() {
        let mut record = record();
        record[0] = 1;
        assert_eq!(decode(12, Bytes::from(record)), Err("checksum does not match"));
    }

    #[test]
    fn the_format_of_release_1_is_written_and_read() {
        let golden = concat!(
            "02bd74fb9e020000000100000007000000050000000000000002000000000000000c000000000000",
            "000a0000000000000003000000000000000e00000000000000020000000a00000000000000030000",
            "00000000000c000000000000000500000000000000010900000000000000070000006d656d626572",
            "73080000000000000000000000000000000000000000000000000000000100000000000000000000",
            "00000000000000000000000000000000000001000000000000000200000000000000070000000300",
            "0000000000000900000000000000",
        );
        let hex: String = record().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden, "the format of checkpoints changed");
    }
}

//! The decoders of what is on disk, without the disk: for tests that feed them hostile bytes.

use bytes::Bytes;

use crate::record::{self, Record};
use crate::round::Round;
use crate::snapshot::SnapshotId;
use crate::snapshot::format::{Decoder, Encoder, Fault};

/// The record of a round.
pub fn encode_record(number: u64, round: &Round) -> Vec<u8> {
    record::encode(number, round)
}

/// The same bytes with a checksum that is right, so that what is behind it is reached.
pub fn seal(number: u64, record: &[u8]) -> Vec<u8> {
    let (head, rest) = record.split_at(record.len().min(record::HEAD_BYTES));
    match head.first() {
        Some(format) if head.len() == record::HEAD_BYTES => {
            let head = [0; record::HEAD_BYTES];
            record::seal([&head[..], rest].concat(), *format, number)
        }
        _ => record.to_vec(),
    }
}

/// Decodes a record; what is a round must give back the same bytes. False: it is none.
pub fn decode_record(number: u64, bytes: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = record::decode_group(number, bytes.clone(), 1);
    match record::decode(number, bytes) {
        Ok(Record::Round(round)) => {
            let again = record::decode(number, record::encode(number, &round).into());
            assert_eq!(again, Ok(Record::Round(round)), "the round is another one when written");
            true
        }
        Ok(Record::Checkpoint(_)) => true,
        Err(_) => false,
    }
}

/// A snapshot's file.
pub fn encode_snapshot(id: SnapshotId, configuration: &[u8], chunks: &[&[u8]]) -> Vec<u8> {
    let write = || {
        let mut encoder = Encoder::new(Vec::new(), id, configuration)?;
        chunks.iter().try_for_each(|chunk| encoder.push(chunk))?;
        encoder.finish()
    };
    write().expect("memory takes all").0
}

/// Reads a snapshot's file to its end; what is whole must give back the same bytes. False: it is
/// none.
pub fn decode_snapshot(bytes: &[u8]) -> bool {
    let read = || -> Result<Vec<u8>, Fault> {
        let (mut decoder, header) = Decoder::new(bytes)?;
        let mut chunks = Vec::new();
        while let Some(chunk) = decoder.next_chunk()? {
            chunks.push(chunk);
        }
        let chunks: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk[..]).collect();
        Ok(encode_snapshot(header.id, &header.configuration, &chunks))
    };
    match read() {
        Ok(again) => {
            assert_eq!(again, bytes, "the file is another one when written");
            true
        }
        Err(_) => false,
    }
}

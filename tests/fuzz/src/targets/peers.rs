//! What comes over a connection between nodes, before the shard looks into it.

use super::Seeds;
use bytes::Bytes;
use futures::FutureExt;
use multiraft_link::{Offer, PREFACE, Purpose, SNAPSHOT_PREFACE, purpose, read_frames};
use multiraft_shard::Frame;

pub fn frame(bytes: &[u8]) {
    if let Ok(frame) = Frame::parse(Bytes::copy_from_slice(bytes)) {
        let items: Vec<_> = frame.collect();
        let broken = items.iter().position(Result::is_err);
        assert!(broken.is_none_or(|at| at + 1 == items.len()), "nothing follows what is broken");
    }
}

pub fn frames() -> Seeds {
    super::shard::frames().into_iter().map(|(name, bytes)| (name, bytes[1..].to_vec())).collect()
}

/// A whole connection: all of it is there, so nothing ever waits.
pub fn link(bytes: &[u8]) {
    let mut rest = bytes;
    let read = async {
        match purpose(&mut rest).await? {
            Purpose::Frames => read_frames(rest, drop).await,
            Purpose::Snapshot => {
                let offer = Offer::read(&mut rest).await?;
                let encoded = offer.encode();
                let length = (encoded.len() as u32).to_be_bytes();
                let again = [&length[..], &encoded].concat();
                let again = Offer::read(&mut &again[..]).await?;
                assert_eq!(again, offer);
                Ok(())
            }
        }
    };
    // Damaged bytes are an error, and that is all.
    let _ = read.now_or_never().expect("bytes in memory need no waiting");
}

pub fn connections() -> Seeds {
    let offer = Offer {
        from: 1,
        to: 2,
        group: 3,
        index: 4,
        term: 5,
        length: 6,
        crc: 7,
        message: Bytes::from_static(b"said"),
    };
    let encoded = offer.encode();
    let length = (encoded.len() as u32).to_be_bytes();
    let snapshot = [&SNAPSHOT_PREFACE[..], &length, &encoded].concat();
    // The checksum of no bytes is 0.
    let empty = [&PREFACE[..], &[0, 0, 0, 4, 0, 0, 0, 0]].concat();
    let short = [&PREFACE[..], &[0, 0, 0, 40, 1, 2, 3, 4, 5]].concat();
    vec![("snapshot", snapshot), ("empty-frame", empty), ("short-frame", short)]
}

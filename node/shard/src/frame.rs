//! Frames between nodes: a header, then items. One frame per peer and round.
//!
//! ```text
//! frame  = version u8, flags u8, from u64, to u64, me (u64, u64), echo (u64, u64), stream u64, item*
//! item   = kind u8, group u32, length u32, payload
//! ```
//! Integers are big-endian. A frame that does not parse closes its connection.

use crate::pair::PairHeader;
use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 2 + 7 * 8;
const ITEM_HEADER_BYTES: usize = 9;
const FLAG_DEAF: u8 = 1;

/// What an item holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// A raft message.
    Raft = 1,
    /// An encoded log item of a caller of the sending node, for the leader.
    Forward = 2,
    /// A call of a node that holds no member of the group ([`crate::proxy`]).
    Proxy = 3,
    /// The answer to such a call.
    ProxyAnswer = 4,
    /// State of the sender's members at the start of a session ([`crate::memory`]).
    Hello = 5,
    /// The receiver's member of the group went back behind what it acknowledged.
    RolledBack = 6,
    /// What the sender knows of nodes and their groups ([`crate::directory`]).
    Directory = 7,
    /// A member asks the leader to be added, promoted or removed ([`crate::membership`]).
    Ask = 8,
    /// The leader's answer.
    AskAnswer = 9,
    /// The leader may rest if the receiver's member gives it its clock ([`crate::contract`]). The
    /// payload of this and the next three is the leader's term.
    Offer = 10,
    /// The sender's member did so.
    Grant = 11,
    /// The sender's member took its clock back.
    Revoke = 12,
    /// The sender's member leads no more.
    Resign = 13,
    /// What the sender's member promised to hold: term and index ([`crate::memory`]).
    Promise = 14,
    /// The receiver's member has as committed what the leader never had.
    Contradiction = 15,
    /// The receiver's member was shut out when its group was recovered by force.
    ShutOut = 16,
}

impl ItemKind {
    fn from_code(code: u8) -> Option<Self> {
        use ItemKind::*;
        let all = [
            Raft,
            Forward,
            Proxy,
            ProxyAnswer,
            Hello,
            RolledBack,
            Directory,
            Ask,
            AskAnswer,
            Offer,
            Grant,
            Revoke,
            Resign,
            Promise,
            Contradiction,
            ShutOut,
        ];
        all.into_iter().find(|k| *k as u8 == code)
    }
}

/// Bytes that are no frame for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame is cut short")]
    Short,
    #[error("frame has unknown version {0}")]
    Version(u8),
    #[error("frame has unknown item kind {0}")]
    Kind(u8),
}

/// Items for one peer, collected over a round.
#[derive(Debug, Default)]
pub struct Outbox {
    items: BytesMut,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn clear(&mut self) {
        self.items.clear();
    }

    pub fn put(&mut self, kind: ItemKind, group: u32, payload: &[u8]) {
        self.items.reserve(ITEM_HEADER_BYTES + payload.len());
        self.items.put_u8(kind as u8);
        self.items.put_u32(group);
        self.items.put_u32(u32::try_from(payload.len()).expect("payloads are bounded by 8 MiB"));
        self.items.put_slice(payload);
    }

    /// The frame with everything collected.
    pub fn take(&mut self, from: u64, to: u64, pair: PairHeader) -> Bytes {
        let mut frame = BytesMut::with_capacity(HEADER_BYTES + self.items.len());
        frame.put_u8(VERSION);
        frame.put_u8(if pair.deaf { FLAG_DEAF } else { 0 });
        for field in [from, to, pair.me.0, pair.me.1, pair.echo.0, pair.echo.1, pair.stream] {
            frame.put_u64(field);
        }
        frame.put_slice(&self.items);
        self.items.clear();
        frame.freeze()
    }
}

/// A received frame; iterate for its items.
#[derive(Debug)]
pub struct Frame {
    pub from: u64,
    pub to: u64,
    pub pair: PairHeader,
    items: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub kind: ItemKind,
    pub group: u32,
    pub payload: Bytes,
}

impl Frame {
    /// Parses the header and checks that the items are whole.
    pub fn parse(mut bytes: Bytes) -> Result<Frame, FrameError> {
        if bytes.len() < HEADER_BYTES {
            return Err(FrameError::Short);
        }
        let version = bytes.get_u8();
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let deaf = bytes.get_u8() & FLAG_DEAF != 0;
        let (from, to) = (bytes.get_u64(), bytes.get_u64());
        let me = (bytes.get_u64(), bytes.get_u64());
        let echo = (bytes.get_u64(), bytes.get_u64());
        let stream = bytes.get_u64();
        Ok(Frame { from, to, pair: PairHeader { me, echo, stream, deaf }, items: bytes })
    }
}

impl Iterator for Frame {
    type Item = Result<Item, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.items.is_empty() {
            return None;
        }
        let item = parse_item(&mut self.items);
        if item.is_err() {
            self.items.clear();
        }
        Some(item)
    }
}

fn parse_item(bytes: &mut Bytes) -> Result<Item, FrameError> {
    if bytes.len() < ITEM_HEADER_BYTES {
        return Err(FrameError::Short);
    }
    let code = bytes.get_u8();
    let group = bytes.get_u32();
    let length = bytes.get_u32() as usize;
    if bytes.len() < length {
        return Err(FrameError::Short);
    }
    let payload = bytes.split_to(length);
    let kind = ItemKind::from_code(code).ok_or(FrameError::Kind(code))?;
    Ok(Item { kind, group, payload })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_survives_the_wire_and_every_cut_is_an_error() {
        let pair = PairHeader { me: (1, 2), echo: (3, 4), stream: 5, deaf: true };
        let mut outbox = Outbox::default();
        outbox.put(ItemKind::Raft, 7, b"abc");
        outbox.put(ItemKind::Ask, 8, b"");
        let bytes = outbox.take(10, 11, pair);
        let frame = Frame::parse(bytes.clone()).unwrap();
        assert_eq!((frame.from, frame.to, frame.pair), (10, 11, pair));
        let items: Vec<_> = frame.map(Result::unwrap).collect();
        assert_eq!(items.len(), 2);
        assert_eq!((items[0].group, &items[0].payload[..]), (7, &b"abc"[..]));
        for cut in 0..bytes.len() {
            let whole = Frame::parse(bytes.slice(..cut)).map(|f| f.collect::<Vec<_>>());
            let items = whole.unwrap_or_default();
            assert!(items.len() < 2 || items.iter().any(Result::is_err));
        }
    }
}

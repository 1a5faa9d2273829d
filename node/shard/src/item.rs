//! Log items and entries, written straight into a buffer: the field layout of
//! `atomix.multiraft.log.v1`, so that a command's bytes are copied once and never decoded here.

use bytes::{BufMut, Bytes, BytesMut};
use multiraft_proto::log::LogEntry;
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Version of the entry's envelope.
const FORMAT: u64 = 1;

const TAG_ITEM: u8 = 5 << 3 | 2;
const TAG_ORIGIN: u8 = 1 << 3 | 1;
const TAG_NUMBER: u8 = 2 << 3;
const TAG_INPUT: u8 = 3 << 3 | 2;
const TAG_CANCEL: u8 = 4 << 3 | 2;
const TAG_TICK: u8 = 5 << 3 | 2;

/// A command of (origin, number), as one element of `LogEntry.items`.
pub(crate) fn put_command(out: &mut BytesMut, origin: u64, number: u64, input: &[u8]) {
    let body = 1 + encoded_len_varint(input.len() as u64) + input.len();
    put_head(out, origin, number, body);
    out.put_u8(TAG_INPUT);
    encode_varint(input.len() as u64, out);
    out.put_slice(input);
}

/// The caller of (origin, number), who waits for an open command, went away.
pub(crate) fn put_cancel(
    out: &mut BytesMut,
    (origin, number): (u64, u64),
    (session_id, sequence_num): (u64, u64),
) {
    let inner = 2 + encoded_len_varint(session_id) + encoded_len_varint(sequence_num);
    put_head(out, origin, number, 1 + encoded_len_varint(inner as u64) + inner);
    out.put_u8(TAG_CANCEL);
    encode_varint(inner as u64, out);
    out.put_u8(1 << 3);
    encode_varint(session_id, out);
    out.put_u8(2 << 3);
    encode_varint(sequence_num, out);
}

/// Moves log time.
pub(crate) fn put_tick(out: &mut BytesMut) {
    put_head(out, 0, 0, 2);
    out.put_u8(TAG_TICK);
    out.put_u8(0);
}

fn put_head(out: &mut BytesMut, origin: u64, number: u64, body: usize) {
    let length = 1 + 8 + 1 + encoded_len_varint(number) + body;
    out.reserve(length + 6);
    out.put_u8(TAG_ITEM);
    encode_varint(length as u64, out);
    out.put_u8(TAG_ORIGIN);
    out.put_u64_le(origin);
    out.put_u8(TAG_NUMBER);
    encode_varint(number, out);
}

/// Whether bytes of another node are items and nothing else: they become a part of an entry, and
/// every member stops at an entry that it does not understand.
pub(crate) fn are_items(encoded: Bytes) -> bool {
    let Ok(entry) = LogEntry::decode(encoded) else { return false };
    let known = !entry.items.is_empty() && entry.items.iter().all(|item| item.item.is_some());
    known && LogEntry { items: Vec::new(), ..entry } == LogEntry::default()
}

/// The entry around a run of items.
pub(crate) fn entry(term: u64, log_time: u64, items: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + items.len());
    for (field, value) in [(1, FORMAT), (3, term), (4, log_time)] {
        out.put_u8(field << 3);
        encode_varint(value, &mut out);
    }
    out.put_slice(items);
    out
}

/// What a member promised its group to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Promise {
    pub member_id: u64,
    pub term: u64,
    pub index: u64,
}

impl Promise {
    pub fn encode(self) -> Vec<u8> {
        [self.member_id, self.term, self.index].map(u64::to_be_bytes).concat()
    }

    /// `None`: it is none.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let (words, rest) = payload.as_chunks::<8>();
        let [member_id, term, index] = *words else { return None };
        let [member_id, term, index] = [member_id, term, index].map(u64::from_be_bytes);
        rest.is_empty().then_some(Promise { member_id, term, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiraft_proto::log::log_item;

    #[test]
    fn only_items_may_become_a_part_of_an_entry() {
        let mut items = BytesMut::new();
        put_command(&mut items, 77, 300, b"input");
        put_tick(&mut items);
        let items = items.freeze();
        assert!(are_items(items.clone()));
        let whole = entry(3, 1234, &items);
        assert!(!are_items(whole.into()), "a field of the entry itself");
        assert!(!are_items(items.slice(..items.len() - 1)), "cut short");
        assert!(!are_items(Bytes::from_static(&[TAG_ITEM, 0])), "an item of no known kind");
        assert!(!are_items(Bytes::new()));
    }

    #[test]
    fn a_promise_survives_the_wire_and_every_cut_is_none() {
        let promise = Promise { member_id: 1, term: 2, index: 3 };
        let bytes = promise.encode();
        assert_eq!(Promise::decode(&bytes), Some(promise));
        assert!((0..bytes.len()).all(|cut| Promise::decode(&bytes[..cut]).is_none()));
    }

    #[test]
    fn what_is_written_by_hand_decodes_as_the_message() {
        let mut items = BytesMut::new();
        put_command(&mut items, 77, 300, b"input");
        put_cancel(&mut items, (78, 301), (500, 9));
        put_tick(&mut items);
        let entry = LogEntry::decode(&entry(3, 1234, &items)[..]).unwrap();
        assert_eq!((entry.format, entry.term, entry.log_time), (1, 3, 1234));
        assert_eq!((entry.items[0].origin, entry.items[0].number), (77, 300));
        assert_eq!((entry.items[1].origin, entry.items[1].number), (78, 301));
        let kinds: Vec<_> = entry.items.into_iter().map(|i| i.item.unwrap()).collect();
        assert_eq!(kinds[0], log_item::Item::Input(bytes::Bytes::from_static(b"input")));
        let log_item::Item::Cancel(cancel) = &kinds[1] else { panic!("{:?}", kinds[1]) };
        assert_eq!((cancel.session_id, cancel.sequence_num), (500, 9));
        assert!(matches!(kinds[2], log_item::Item::Tick(_)));
    }
}

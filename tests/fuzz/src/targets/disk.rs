//! What a node reads back from its disk.

use super::Seeds;
use bytes::Bytes;
use multiraft_host::{NodeFacts, decode_facts, encode_facts};
use multiraft_log::{
    Entry, GroupRound, HardState, PeerMemory, Round, SnapshotId, StoredConfig, fuzz,
};

const NUMBER: u64 = 12;

/// As it is, and with a checksum that is right.
pub fn record(bytes: &[u8]) {
    fuzz::decode_record(NUMBER, bytes);
    fuzz::decode_record(NUMBER, &fuzz::seal(NUMBER, bytes));
}

pub fn records() -> Seeds {
    let entry = |index| Entry {
        index,
        term: 3,
        kind: 0,
        data: Bytes::from_static(b"data"),
        context: Bytes::from_static(b"context"),
    };
    let part = GroupRound {
        group: 1,
        state: Some(HardState { term: 3, vote: 2, commit: 8 }),
        first: Some((5, 2)),
        config: Some(StoredConfig { applied: 4, bytes: Bytes::from_static(b"members") }),
        entries: vec![entry(9), entry(10)],
        delete: false,
    };
    let gone = GroupRound { group: 8, delete: true, ..GroupRound::default() };
    let peer = PeerMemory { node: 1, incarnation: 2, group: 7, term: 3, index: 9 };
    let round = Round { groups: vec![part, gone], peers: vec![peer] };
    let whole = fuzz::encode_record(NUMBER, &round);
    // Another format behind the same head.
    let checkpoint = fuzz::seal(NUMBER, &[&[2], &whole[1..]].concat());
    let empty = fuzz::encode_record(NUMBER, &Round::default());
    vec![("round", whole), ("checkpoint", checkpoint), ("empty", empty)]
}

pub fn snapshot(bytes: &[u8]) {
    fuzz::decode_snapshot(bytes);
}

pub fn snapshots() -> Seeds {
    let id = SnapshotId { group: 7, index: 1200, term: 3 };
    let chunks: [&[u8]; 2] = [b"one", b"another"];
    vec![
        ("chunks", fuzz::encode_snapshot(id, b"members", &chunks)),
        ("empty", fuzz::encode_snapshot(id, b"", &[])),
    ]
}

pub fn facts(bytes: &[u8]) {
    if let Some(facts) = decode_facts(bytes) {
        assert_eq!(decode_facts(&encode_facts(&facts)), Some(facts));
    }
}

pub fn stored_facts() -> Seeds {
    let cluster_id = "shop/orders".to_owned();
    let facts = NodeFacts { cluster_id, operator_epoch: 7, activated: true, cluster_groups: 0 };
    vec![("facts", encode_facts(&facts))]
}

//! Messages between members, into groups in every role.

use super::Seeds;
use multiraft_group::{Configuration, Envelope, Group, Member, Origin, Role, SnapshotMark, Timing};
use multiraft_proto::log::StoredConfiguration;
use prost::Message as _;
use prost::encoding::{WireType, bytes as field, encode_key, encode_varint};

fn configuration_of(voters: u64) -> Configuration {
    let member =
        |id| Member { member_id: id, node_id: id, host: "host".into(), port: 1, role: Role::Voter };
    Configuration::first((1..=voters).map(member).collect())
}

fn start(member_id: u64, configuration: Configuration) -> Group {
    let timing = Timing { election_ticks: 10, heartbeat_ticks: 1, seed: 7 };
    Group::start(Origin::fresh(member_id, configuration), timing)
}

/// Does what raft asks; returns what leaves. `durable`: the disk is at once.
fn drain(group: &mut Group, durable: bool) -> Vec<Envelope> {
    let mut sent = Vec::new();
    while group.has_ready() {
        let ready = group.ready();
        sent.extend(ready.messages);
        for snapshot in ready.snapshots {
            let (to, message) = (snapshot.to, snapshot.message);
            sent.push(Envelope { to, message });
        }
        if let Some(persist) = ready.persist.filter(|_| durable) {
            sent.extend(group.persisted(persist.number));
        }
    }
    sent
}

/// Three members that know each other, until they have nothing more to say. Returns all messages.
fn settle(groups: &mut [Group]) -> Vec<Envelope> {
    let mut all = Vec::new();
    loop {
        let sent: Vec<_> = groups.iter_mut().flat_map(|group| drain(group, true)).collect();
        if sent.is_empty() {
            return all;
        }
        for envelope in &sent {
            let _ = groups[envelope.to as usize - 1].step(&envelope.message, false);
        }
        all.extend(sent);
    }
}

/// Member 1 leads in term 1 with three entries, the first is in a snapshot.
fn cluster() -> (Vec<Group>, Vec<Envelope>) {
    let mut groups: Vec<Group> = (1..=3).map(|id| start(id, configuration_of(3))).collect();
    groups[0].campaign();
    let mut said = settle(&mut groups);
    for payload in [&b"one"[..], b"two"] {
        groups[0].propose(payload.to_vec()).expect("member 1 leads");
        said.extend(settle(&mut groups));
    }
    for group in &mut groups {
        group.compact(SnapshotMark { index: 1, term: 1, configuration: configuration_of(3) });
    }
    groups[1].read_index(b"0123456789abcdef".to_vec());
    said.extend(settle(&mut groups));
    groups[0].tick();
    said.extend(settle(&mut groups));
    (groups, said)
}

const ROLES: u8 = 6;

/// Member 1 or 2 of a cluster, in a role; with `role` from 3 on its disk is slow.
fn member(role: u8) -> Group {
    let (mut groups, _) = cluster();
    let mut group = groups.swap_remove(usize::from(role != 0));
    match role {
        0 | 1 => {}
        2 => {
            group.campaign();
            drain(&mut group, true);
        }
        3 => {
            // A vote that is not on disk yet.
            let _ = group.step(&timeout_now(), false);
            drain(&mut group, false);
        }
        4 => {
            let append = message(3, 2, 3, &[(8, 3), (6, 3), (5, 1)], &entry(4, 2, b"data"));
            let _ = group.step(&append, false);
            drain(&mut group, false);
        }
        _ => group = start(2, configuration_of(1)),
    }
    group
}

/// Feeds a message; then time passes and the disk keeps up.
fn feed(role: u8, bytes: &[u8]) {
    let mut group = member(role % ROLES);
    let stepped = group.step(bytes, false);
    if stepped.is_err() {
        let _ = group.install(bytes);
    }
    drain(&mut group, false);
    // A second time: what it changed may matter then.
    let _ = group.step(bytes, true);
    for _ in 0..25 {
        group.tick();
        drain(&mut group, true);
    }
    let _ = group.propose(b"on".to_vec());
    drain(&mut group, true);
}

/// One byte chooses the role of the receiver.
pub fn message_bytes(bytes: &[u8]) {
    if let Some((role, message)) = bytes.split_first() {
        feed(*role, message);
    }
}

pub fn messages() -> Seeds {
    let (_, said) = cluster();
    let names = ["said-0", "said-1", "said-2", "said-3", "said-4", "said-5", "said-6", "said-7"];
    let mut seen = Vec::new();
    let mut seeds = Seeds::new();
    for envelope in said.iter().filter(|e| e.to <= 2) {
        // The kind is the second byte; a few of each are enough.
        let kind = (envelope.message[1], envelope.to);
        if !seen.contains(&kind) && seeds.len() < names.len() {
            seen.push(kind);
            let role = envelope.to as u8 - 1;
            seeds.push((names[seeds.len()], [&[role], &envelope.message[..]].concat()));
        }
    }
    seeds.push(("timeout-now", [&[1], &timeout_now()[..]].concat()));
    seeds.push(("snapshot", [&[1], &snapshot(9, 1, &[1, 2, 3], &[])[..]].concat()));
    seeds
}

// ------------------------------------------------------------------------------------ recipes

/// Bytes choose each field from numbers that matter, so that all combinations are met soon:
/// role, kind, from, term, log term, index, commit, reject, hint, entries, then per entry (kind,
/// index, term), then per member of a snapshot.
pub fn fields(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let mut next = || bytes.next().unwrap_or(0);
    let role = next();
    let (kind, from) = (u64::from(next() % 21), u64::from(next() % 5));
    let mut numbers = Vec::new();
    for tag in [4, 5, 6, 8, 10, 11, 13, 15] {
        let number = number(next());
        numbers.push((tag, if tag == 10 { number % 2 } else { number }));
    }
    let mut rest = Vec::new();
    for _ in 0..next() % 4 {
        let (kind, index, term) = (next() % 4, number(next()), number(next()));
        let mut inner = Vec::new();
        put(&mut inner, 1, kind.into());
        put(&mut inner, 2, term);
        put(&mut inner, 3, index);
        field::encode(4, &change(next()), &mut inner);
        field::encode(7, &inner, &mut rest);
    }
    let bytes = match kind == 7 {
        true => {
            let ids = |count: u8, next: &mut dyn FnMut() -> u8| -> Vec<u64> {
                (0..count % 4).map(|_| u64::from(next() % 5)).collect()
            };
            let (index, term) = (number(next()), number(next()));
            let count = next();
            let voters = ids(count, &mut next);
            let count = next();
            snapshot(index, term, &voters, &ids(count, &mut next))
        }
        false => message(kind, 2 - u64::from(role % ROLES == 0), from, &numbers, &rest),
    };
    feed(role, &bytes);
}

pub fn recipes() -> Seeds {
    let append = vec![1, 3, 1, 1, 1, 3, 3, 0, 0, 0, 0, 1, 0, 4, 1, 0];
    let empty_read = vec![0, 15, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let early_vote = vec![3, 6, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0];
    let far_append = vec![1, 3, 1, 1, 0, 11, 11, 0, 0, 0, 0, 1, 0, 9, 1, 0];
    let last_term = vec![1, 5, 1, 14, 14, 3, 3, 0, 0, 0, 0, 0];
    let no_voters = vec![1, 7, 1, 1, 1, 3, 3, 0, 0, 0, 0, 0, 6, 1, 0, 1, 2];
    vec![
        ("append", append),
        ("empty-read", empty_read),
        ("early-vote", early_vote),
        ("far-append", far_append),
        ("last-term", last_term),
        ("no-voters", no_voters),
    ]
}

fn number(choice: u8) -> u64 {
    match choice % 16 {
        small @ 0..=9 => small.into(),
        10 => 100,
        11 => u64::from(u32::MAX),
        12 => 1 << 33,
        13 => 1 << 62,
        14 => u64::MAX - 1,
        _ => u64::MAX,
    }
}

/// A change of the configuration, or no such thing.
fn change(choice: u8) -> Vec<u8> {
    let mut inner = Vec::new();
    put(&mut inner, 2, u64::from(choice % 4));
    put(&mut inner, 3, u64::from(choice / 4 % 5));
    inner.truncate(usize::from(choice / 32));
    inner
}

fn put(out: &mut Vec<u8>, tag: u32, number: u64) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(number, out);
}

/// A raft message, field by field.
fn message(kind: u64, to: u64, from: u64, numbers: &[(u32, u64)], rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, 1, kind);
    put(&mut out, 2, to);
    put(&mut out, 3, from);
    if !numbers.iter().any(|(tag, _)| *tag == 4) {
        put(&mut out, 4, 2);
    }
    numbers.iter().for_each(|(tag, number)| put(&mut out, *tag, *number));
    out.extend_from_slice(rest);
    out
}

fn entry(index: u64, term: u64, data: &[u8]) -> Vec<u8> {
    let (mut inner, mut out) = (Vec::new(), Vec::new());
    put(&mut inner, 2, term);
    put(&mut inner, 3, index);
    field::encode(4, &data.to_vec(), &mut inner);
    field::encode(7, &inner, &mut out);
    out
}

fn timeout_now() -> Vec<u8> {
    message(14, 2, 1, &[(4, 1)], &[])
}

/// A snapshot message of member 1 to member 2.
fn snapshot(index: u64, term: u64, voters: &[u64], learners: &[u64]) -> Vec<u8> {
    let (mut state, mut metadata) = (Vec::new(), Vec::new());
    let (mut inner, mut out) = (Vec::new(), Vec::new());
    voters.iter().for_each(|id| put(&mut state, 1, *id));
    learners.iter().for_each(|id| put(&mut state, 2, *id));
    field::encode(1, &state, &mut metadata);
    put(&mut metadata, 2, index);
    put(&mut metadata, 3, term);
    let member = |id: &u64, role| Member {
        member_id: *id,
        node_id: *id,
        host: "host".into(),
        port: 1,
        role,
    };
    let voters = voters.iter().map(|id| member(id, Role::Voter));
    let members = voters.chain(learners.iter().map(|id| member(id, Role::Learner))).collect();
    field::encode(1, &Configuration::first(members).to_stored().encode_to_vec(), &mut inner);
    field::encode(2, &metadata, &mut inner);
    field::encode(9, &inner, &mut out);
    message(7, 2, 1, &[(4, 2)], &out)
}

/// A stored configuration, and a member that starts with it.
pub fn configuration(bytes: &[u8]) {
    let Ok(stored) = StoredConfiguration::decode(bytes) else { return };
    let configuration = Configuration::from_stored(&stored);
    let again = Configuration::from_stored(&configuration.to_stored());
    assert_eq!(again, configuration);
    if configuration.check().is_ok() {
        let mut group = start(1, configuration);
        (0..25).for_each(|_| group.tick());
        drain(&mut group, true);
    }
}

pub fn stored() -> Seeds {
    let mut configuration = configuration_of(3);
    configuration.members[2].role = Role::Learner;
    vec![("three", configuration.to_stored().encode_to_vec())]
}

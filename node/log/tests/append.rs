//! What was appended is read back, live and after a restart.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use multiraft_log::{
    Entry, GroupRound, HardState, Log, LogError, PeerMemory, Recovered, Round, StoredConfig,
    Written,
};
use proptest::prelude::*;
use support::{entry, open, round};

fn all(log: &Log, group: u32, low: u64, high: u64) -> Vec<Entry> {
    log.reader().read(group, low, high, usize::MAX).expect("read")
}

#[test]
fn one_append_is_one_record_per_round_that_says_something() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    let rounds = [round(1, 1, 2, 1), Round::default(), round(2, 1, 1, 1)];
    let written = log.append(&rounds).expect("append");
    assert_eq!(written.records, 2);
    assert!(written.bytes > 450);
    assert_eq!(log.append(&[Round::default()]).expect("append"), Written::default());
    assert_eq!(log.last_round(), 2);
}

#[test]
fn a_reader_sees_what_was_appended() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    let reader = log.reader();
    for index in 1..=300 {
        log.append(&[round(1, index, index, 1), round(2, index, index, 1)]).expect("append");
        let found = reader.read(1, index, index + 1, usize::MAX).expect("read");
        assert_eq!(found, [entry(index, 1, 150)]);
    }
    let found = reader.read(1, 7, 290, usize::MAX).expect("read");
    assert_eq!(found, (7..290).map(|index| entry(index, 1, 150)).collect::<Vec<_>>());
    assert_eq!(reader.read(1, 7, 290, 450).expect("read").len(), 3);
    assert_eq!(reader.read(1, 7, 290, 0).expect("read").len(), 1);
    for (group, low, high) in [(1, 0, 5), (1, 5, 302), (1, 5, 5), (3, 1, 2)] {
        let error = reader.read(group, low, high, 1).expect_err("out of range");
        assert!(matches!(error, LogError::OutOfRange { .. }), "{error}");
    }
}

#[test]
fn a_replaced_suffix_stays_replaced() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    log.append(&[round(1, 1, 10, 1)]).expect("append");
    log.append(&[round(1, 11, 20, 1)]).expect("append");
    let entries = vec![entry(15, 2, 9), entry(16, 3, 9)];
    let part = GroupRound { group: 1, entries, ..GroupRound::default() };
    log.append(&[Round { groups: vec![part], peers: vec![] }]).expect("append");
    let check = |log: &Log| {
        let found = all(log, 1, 14, 17);
        assert_eq!(found, [entry(14, 1, 150), entry(15, 2, 9), entry(16, 3, 9)]);
        assert!(log.reader().read(1, 14, 18, 1).is_err());
    };
    check(&log);
    drop(log);
    let (log, recovered) = open(dir.path());
    assert_eq!(recovered.groups[&1].terms, [(1, 1), (15, 2), (16, 3)]);
    check(&log);
}

#[test]
fn a_group_may_have_several_parts_in_a_round() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    let mut joined = round(1, 1, 3, 1);
    joined.groups.extend(round(1, 4, 6, 1).groups);
    joined.groups.extend(round(1, 5, 5, 2).groups);
    log.append(&[joined]).expect("append");
    let expected: Vec<Entry> =
        (1..=4).map(|index| entry(index, 1, 150)).chain([entry(5, 2, 150)]).collect();
    assert_eq!(all(&log, 1, 1, 6), expected);
    drop(log);
    assert_eq!(all(&open(dir.path()).0, 1, 1, 6), expected);
}

#[test]
fn a_deleted_group_is_gone_and_may_come_again() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    log.append(&[round(1, 1, 9, 5), round(2, 1, 1, 1)]).expect("append");
    let gone = GroupRound { group: 1, delete: true, ..GroupRound::default() };
    log.append(&[Round { groups: vec![gone], peers: vec![] }]).expect("append");
    assert!(log.reader().read(1, 1, 2, 1).is_err());
    drop(log);
    let (mut log, recovered) = open(dir.path());
    assert_eq!(recovered.groups.keys().collect::<Vec<_>>(), [&2]);
    log.append(&[round(1, 1, 2, 1)]).expect("append");
    assert_eq!(all(&log, 1, 1, 3).len(), 2);
}

#[test]
fn memberships_first_indexes_and_peers_come_back() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    let config = Some(StoredConfig { applied: 40, bytes: Bytes::from_static(b"1,2,3") });
    let created = GroupRound {
        group: 1,
        first: Some((41, 6)),
        state: Some(HardState { term: 6, vote: 0, commit: 40 }),
        config: config.clone(),
        ..GroupRound::default()
    };
    let memory = |index| PeerMemory { node: 3, incarnation: 9, group: 1, term: 6, index };
    let rounds = [
        Round { groups: vec![created], peers: vec![memory(40)] },
        Round { groups: vec![], peers: vec![memory(41)] },
    ];
    log.append(&rounds).expect("append");
    drop(log);
    let recovered = open(dir.path()).1;
    let group = &recovered.groups[&1];
    assert_eq!((group.first, group.last_index, group.state.commit), ((41, 6), 40, 40));
    assert_eq!(group.config, config);
    assert_eq!(recovered.peers, [memory(41)]);
}

#[test]
fn a_gap_is_refused_and_poisons() {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    log.append(&[round(1, 1, 2, 1)]).expect("append");
    assert!(matches!(log.append(&[round(1, 4, 4, 1)]), Err(LogError::Invalid { group: 1, .. })));
    assert!(matches!(log.append(&[round(1, 3, 3, 1)]), Err(LogError::Poisoned)));
    drop(log);
    assert_eq!(open(dir.path()).1.groups[&1].last_index, 2);
}

/// What a group should be, kept the slow and obvious way.
#[derive(Clone, Debug, Default)]
struct Model {
    groups: BTreeMap<u32, BTreeMap<u64, Entry>>,
}

#[derive(Clone, Debug)]
enum Step {
    /// `back` entries of the end are replaced by `count` new ones.
    Write {
        group: u32,
        back: u64,
        count: u64,
    },
    Delete {
        group: u32,
    },
    Together,
    Reopen,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..4u32, 0..6u64, 1..9u64)
            .prop_map(|(group, back, count)| Step::Write { group, back, count }),
        1 => (0..4u32).prop_map(|group| Step::Delete { group }),
        2 => Just(Step::Together),
        1 => Just(Step::Reopen),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 1..60)
}

impl Model {
    fn write(&mut self, group: u32, back: u64, count: u64, term: u64) -> GroupRound {
        let log = self.groups.entry(group).or_default();
        let last = log.keys().next_back().copied().unwrap_or(0);
        let first = last - back.min(last) + 1;
        log.split_off(&first);
        let entries: Vec<Entry> =
            (first..first + count).map(|index| entry(index, term, index as usize % 40)).collect();
        log.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
        GroupRound { group, entries, ..GroupRound::default() }
    }

    fn check(&self, log: &Log, recovered: Option<&Recovered>) {
        let reader = log.reader();
        for (group, entries) in &self.groups {
            let last = *entries.keys().next_back().expect("not empty");
            let found = reader.read(*group, 1, last + 1, usize::MAX).expect("read");
            assert_eq!(found, entries.values().cloned().collect::<Vec<_>>());
            assert!(reader.read(*group, 1, last + 2, usize::MAX).is_err());
            let Some(recovered) = recovered else { continue };
            let mut terms: Vec<(u64, u64)> = Vec::new();
            for entry in entries.values() {
                if terms.last().is_none_or(|(_, term)| *term != entry.term) {
                    terms.push((entry.index, entry.term));
                }
            }
            assert_eq!(recovered.groups[group].terms, terms);
            assert_eq!(recovered.groups[group].last_index, last);
        }
        if let Some(recovered) = recovered {
            assert_eq!(recovered.groups.len(), self.groups.len());
        }
    }
}

fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("directory");
    let (mut log, _) = open(dir.path());
    let (mut model, mut waiting) = (Model::default(), Vec::new());
    for (number, step) in steps.into_iter().enumerate() {
        let term = 1 + number as u64 / 7;
        match step {
            Step::Write { group, back, count } => {
                let part = model.write(group, back, count, term);
                waiting.push(Round { groups: vec![part], peers: vec![] });
                continue;
            }
            Step::Delete { group } => {
                model.groups.remove(&group);
                let part = GroupRound { group, delete: true, ..GroupRound::default() };
                waiting.push(Round { groups: vec![part], peers: vec![] });
                continue;
            }
            Step::Together | Step::Reopen | Step::Close => {
                log.append(&std::mem::take(&mut waiting)).expect("append");
            }
        }
        match step {
            Step::Reopen => drop(log),
            Step::Close => log.close().expect("close"),
            Step::Together | Step::Write { .. } | Step::Delete { .. } => {
                model.check(&log, None);
                continue;
            }
        }
        let (again, recovered) = open(dir.path());
        model.check(&again, Some(&recovered));
        log = again;
    }
    log.append(&waiting).expect("append");
    model.check(&log, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_its_model(steps in steps()) {
        run(steps);
    }
}

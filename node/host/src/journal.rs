//! What happens to groups, as lines of the log. The first few of a kind in a second stand alone, the
//! rest is counted: a node with a thousand groups says in one line that they found a leader. That a
//! group has none is said when it lasts: every change of leader begins so.

use crate::limits::{JOURNAL_LINES_MAX, JOURNAL_PERIOD};
use multiraft_proto::v1::event::Event;
use std::collections::BTreeMap;
use std::time::Instant;
use tracing::{info, warn};

/// What is counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    led_here: usize,
    followed: usize,
    changed: usize,
    snapshots_taken: usize,
    snapshots_sent: usize,
    snapshots_received: usize,
}

pub struct Journal {
    node_id: u64,
    counts: Counts,
    /// Groups without a leader, with the periods that this has lasted.
    leaderless: BTreeMap<u32, u8>,
    since: Instant,
}

/// After so many periods without a leader it is said, once.
const LEADERLESS_PERIODS: u8 = 2;

impl Journal {
    pub fn new(node_id: u64) -> Self {
        Journal {
            node_id,
            counts: Counts::default(),
            leaderless: BTreeMap::new(),
            since: Instant::now(),
        }
    }

    /// `member`: member id and term of this node's member of a group.
    pub fn note(&mut self, events: &[(u32, Event)], member: impl Fn(u32) -> Option<(u64, u64)>) {
        for (group, event) in events {
            self.event(*group, event, &member);
        }
    }

    fn event(&mut self, group: u32, event: &Event, member: &impl Fn(u32) -> Option<(u64, u64)>) {
        let counts = &mut self.counts;
        let (member, term) = member(group).unwrap_or_default();
        match event {
            Event::LeaderUpdated(e) if e.leader == 0 => {
                self.leaderless.entry(group).or_default();
            }
            Event::LeaderUpdated(e) if e.leader == self.node_id => {
                self.leaderless.remove(&group);
                if stands_alone(&mut counts.led_here) {
                    info!(group, member, term = e.term, "this node leads the group");
                }
            }
            Event::LeaderUpdated(e) => {
                self.leaderless.remove(&group);
                if stands_alone(&mut counts.followed) {
                    let leader = hex(e.leader);
                    info!(group, member, term = e.term, leader, "group has a leader");
                }
            }
            Event::MembershipChanged(e) => {
                if stands_alone(&mut counts.changed) {
                    let members: Vec<_> = e.members.iter().copied().map(hex).collect();
                    let (node, members) = (hex(e.node_id), members.join(" "));
                    info!(group, member, term, node, members, "members of the group changed");
                }
            }
            Event::SnapshotCreated(e) => {
                if stands_alone(&mut counts.snapshots_taken) {
                    info!(group, member, term, index = e.index, "snapshot taken");
                }
            }
            Event::SendSnapshotCompleted(e) => {
                if stands_alone(&mut counts.snapshots_sent) {
                    info!(group, member, term, index = e.index, to = hex(e.to), "snapshot sent");
                }
            }
            Event::SnapshotReceived(e) => {
                if stands_alone(&mut counts.snapshots_received) {
                    let from = hex(e.from);
                    info!(group, member, term, index = e.index, from, "snapshot received");
                }
            }
            // Each is to be seen by somebody: none is only counted.
            Event::MemberClosed(e) => {
                warn!(group, member, term, reason = e.reason, "the member is closed: replace it");
            }
            Event::ConnectionEstablished(e) => {
                if let Some(peer) = e.info.as_ref().filter(|i| !i.snapshot) {
                    info!(peer = peer.address, "connected to a peer");
                }
            }
            Event::ConnectionFailed(e) => {
                if let Some(peer) = e.info.as_ref().filter(|i| !i.snapshot) {
                    info!(peer = peer.address, "lost the connection to a peer");
                }
            }
            Event::MemberReady(_)
            | Event::SendSnapshotStarted(_)
            | Event::SendSnapshotAborted(_)
            | Event::SnapshotRecovered(_)
            | Event::SnapshotCompacted(_)
            | Event::LogCompacted(_)
            | Event::LogdbCompacted(_)
            | Event::ServiceConfigChanged(_)
            | Event::Snapshot(_)
            | Event::Synced(_)
            | Event::Heartbeat(_) => {}
        }
    }

    /// To be called often: once in a while says what was only counted.
    pub fn tick(&mut self, member: impl Fn(u32) -> Option<(u64, u64)>) {
        if self.since.elapsed() < JOURNAL_PERIOD {
            return;
        }
        self.since = Instant::now();
        let counts = std::mem::take(&mut self.counts);
        let leaderless = self.leaderless(member);
        for (count, what) in [
            (leaderless, "more groups have no leader"),
            (counts.led_here, "more groups are led by this node"),
            (counts.followed, "more groups have a leader"),
            (counts.changed, "more changes of members"),
            (counts.snapshots_taken, "more snapshots taken"),
            (counts.snapshots_sent, "more snapshots sent"),
            (counts.snapshots_received, "more snapshots received"),
        ] {
            let groups = count.saturating_sub(JOURNAL_LINES_MAX);
            if groups > 0 {
                info!(count = groups, "{groups} {what}");
            }
        }
    }

    /// Counts the groups whose lack of a leader has just lasted long enough; the first are named.
    fn leaderless(&mut self, member: impl Fn(u32) -> Option<(u64, u64)>) -> usize {
        let mut count = 0;
        // Groups that this node has left are forgotten.
        self.leaderless.retain(|group, periods| {
            let Some((member, term)) = member(*group) else { return false };
            *periods = periods.saturating_add(1);
            if *periods == LEADERLESS_PERIODS && stands_alone(&mut count) {
                info!(group, member, term, "group has no leader");
            }
            true
        });
        count
    }
}

/// As the command line prints nodes.
fn hex(node_id: u64) -> String {
    format!("{node_id:016x}")
}

fn stands_alone(count: &mut usize) -> bool {
    *count += 1;
    *count <= JOURNAL_LINES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use multiraft_proto::v1::LeaderUpdatedEvent;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_thousand_groups_that_find_a_leader_are_a_few_lines() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let mut journal = Journal::new(1);
            let found = |group_id| {
                let event = LeaderUpdatedEvent { group_id, term: 3, leader: 2 };
                (group_id, Event::LeaderUpdated(event))
            };
            let events: Vec<_> = (1..=1000).map(found).collect();
            journal.note(&events, |group| Some((u64::from(group), 3)));
            journal.since -= JOURNAL_PERIOD + Duration::from_millis(1);
            journal.tick(|_| None);
            journal.tick(|_| None);
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), JOURNAL_LINES_MAX + 1, "{text}");
        for word in
            ["\"group\":1,", "\"term\":3", "\"member\":1,", "\"leader\":\"0000000000000002\""]
        {
            assert!(text.lines().next().is_some_and(|l| l.contains(word)), "{word}: {text}");
        }
        let rest = format!("{} more groups have a leader", 1000 - JOURNAL_LINES_MAX);
        assert!(text.contains(&rest), "{text}");
    }

    #[test]
    fn a_group_without_a_leader_is_named_when_it_lasts() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(log, || {
            let mut journal = Journal::new(1);
            let event = |group_id, leader| {
                let event = LeaderUpdatedEvent { group_id, term: 3, leader };
                (group_id, Event::LeaderUpdated(event))
            };
            let member = |group| Some((u64::from(group), 3));
            journal.note(&[event(7, 0), event(8, 0), event(8, 1)], member);
            for _ in 0..4 {
                journal.since -= JOURNAL_PERIOD + Duration::from_millis(1);
                journal.tick(member);
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let named = text.lines().filter(|line| line.contains("group has no leader"));
        let named: Vec<_> = named.collect();
        assert_eq!(named.len(), 1, "{text}");
        assert!(named[0].contains("\"group\":7,"), "{text}");
    }
}

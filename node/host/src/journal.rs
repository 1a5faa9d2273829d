//! What happens to groups, as lines of the log. The first few of a kind in a second stand alone, the
//! rest is counted: a node with a thousand groups says in one line that they found a leader.

use crate::limits::{JOURNAL_LINES_MAX, JOURNAL_PERIOD};
use multiraft_proto::v1::event::Event;
use std::time::Instant;
use tracing::info;

/// What is counted apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    led_here: usize,
    followed: usize,
    leaderless: usize,
    changed: usize,
    snapshots_taken: usize,
    snapshots_sent: usize,
    snapshots_received: usize,
}

pub struct Journal {
    node_id: u64,
    counts: Counts,
    since: Instant,
}

impl Journal {
    pub fn new(node_id: u64) -> Self {
        Journal { node_id, counts: Counts::default(), since: Instant::now() }
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
                if stands_alone(&mut counts.leaderless) {
                    info!(group, member, term = e.term, "group has no leader");
                }
            }
            Event::LeaderUpdated(e) if e.leader == self.node_id => {
                if stands_alone(&mut counts.led_here) {
                    info!(group, member, term = e.term, "this node leads the group");
                }
            }
            Event::LeaderUpdated(e) => {
                if stands_alone(&mut counts.followed) {
                    info!(group, member, term = e.term, leader = e.leader, "group has a leader");
                }
            }
            Event::MembershipChanged(e) => {
                if stands_alone(&mut counts.changed) {
                    let (node, members) = (e.node_id, &e.members);
                    info!(group, member, term, node, ?members, "members of the group changed");
                }
            }
            Event::SnapshotCreated(e) => {
                if stands_alone(&mut counts.snapshots_taken) {
                    info!(group, member, term, index = e.index, "snapshot taken");
                }
            }
            Event::SendSnapshotCompleted(e) => {
                if stands_alone(&mut counts.snapshots_sent) {
                    info!(group, member, term, index = e.index, to = e.to, "snapshot sent");
                }
            }
            Event::SnapshotReceived(e) => {
                if stands_alone(&mut counts.snapshots_received) {
                    info!(group, member, term, index = e.index, from = e.from, "snapshot received");
                }
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
    pub fn tick(&mut self) {
        if self.since.elapsed() < JOURNAL_PERIOD {
            return;
        }
        self.since = Instant::now();
        let counts = std::mem::take(&mut self.counts);
        for (count, what) in [
            (counts.leaderless, "more groups have no leader"),
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
            journal.tick();
            journal.tick();
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), JOURNAL_LINES_MAX + 1, "{text}");
        for word in ["\"group\":1,", "\"term\":3", "\"member\":1,", "\"leader\":2"] {
            assert!(text.lines().next().is_some_and(|l| l.contains(word)), "{word}: {text}");
        }
        let rest = format!("{} more groups have a leader", 1000 - JOURNAL_LINES_MAX);
        assert!(text.contains(&rest), "{text}");
    }
}

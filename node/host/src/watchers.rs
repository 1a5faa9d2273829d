//! Subscribers of `Node.Watch`: a snapshot, a marker, then what happens.

use crate::limits::{WATCH_HEARTBEAT, WATCH_SNAPSHOT_GROUPS};
use multiraft_proto::v1::event::Event as Kind;
use multiraft_proto::v1::{Event, GroupState, Heartbeat, NodeSnapshot, PeerState, Synced};
use prost_types::Timestamp;
use std::time::{Instant, SystemTime};
use tokio::sync::mpsc;

struct Subscriber {
    /// Empty = all.
    groups: Vec<u32>,
    events: mpsc::Sender<Event>,
}

impl Subscriber {
    fn wants(&self, group: u32) -> bool {
        group == 0 || self.groups.is_empty() || self.groups.contains(&group)
    }
}

pub struct Watchers {
    subscribers: Vec<Subscriber>,
    /// Number of the last event of this process.
    sequence: u64,
    beaten: Instant,
}

impl Watchers {
    pub fn new() -> Self {
        Watchers { subscribers: Vec::new(), sequence: 0, beaten: Instant::now() }
    }

    /// Whether anybody listens.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    pub fn subscribe(
        &mut self,
        groups: Vec<u32>,
        events: mpsc::Sender<Event>,
        states: Vec<GroupState>,
        peers: Vec<PeerState>,
    ) {
        let subscriber = Subscriber { groups, events };
        let states: Vec<_> = states.into_iter().filter(|s| subscriber.wants(s.group_id)).collect();
        let mut parts: Vec<NodeSnapshot> = states
            .chunks(WATCH_SNAPSHOT_GROUPS)
            .map(|c| NodeSnapshot { groups: c.to_vec(), peers: Vec::new() })
            .collect();
        match parts.first_mut() {
            Some(first) => first.peers = peers,
            None => parts.push(NodeSnapshot { groups: Vec::new(), peers }),
        }
        let now = timestamp();
        let kinds = parts.into_iter().map(Kind::Snapshot).chain([Kind::Synced(Synced {})]);
        for kind in kinds {
            let event = Event { timestamp: Some(now), sequence: self.sequence, event: Some(kind) };
            if subscriber.events.try_send(event).is_err() {
                return;
            }
        }
        self.subscribers.push(subscriber);
    }

    /// Tells everybody; who is too slow is cut off.
    pub fn publish(&mut self, events: Vec<(u32, Kind)>) {
        for (group, kind) in events {
            self.sequence += 1;
            let event =
                Event { timestamp: Some(timestamp()), sequence: self.sequence, event: Some(kind) };
            self.subscribers
                .retain(|s| !s.wants(group) || s.events.try_send(event.clone()).is_ok());
        }
    }

    pub fn tick(&mut self) {
        if self.beaten.elapsed() < WATCH_HEARTBEAT {
            return;
        }
        self.beaten = Instant::now();
        let event = Event {
            timestamp: Some(timestamp()),
            sequence: self.sequence,
            event: Some(Kind::Heartbeat(Heartbeat {})),
        };
        self.subscribers.retain(|s| s.events.try_send(event.clone()).is_ok());
    }
}

fn timestamp() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

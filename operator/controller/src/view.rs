//! What one node says of itself: a pure fold over GetInfo and the events of its Watch stream.

use std::collections::BTreeMap;

use multiraft_proto::v1;
use v1::event::Event as Kind;

/// The state of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Link {
    /// Never reached yet.
    #[default]
    Connecting,
    /// Synced and heard of recently.
    Live,
    /// Was live; nothing is known now. Not "down": the node may serve well.
    Unknown,
}

/// A node as last heard of.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeView {
    pub link: Link,
    /// Why the link is not live.
    pub error: Option<String>,
    /// As of the last GetInfo, without groups and peers.
    pub identity: Option<v1::GetInfoResponse>,
    pub groups: BTreeMap<u32, v1::GroupState>,
    pub peers: BTreeMap<u64, v1::PeerState>,
}

/// What the fold wants after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Only a sign of life.
    None,
    /// The view changed.
    Changed,
    /// The view changed in a way that only GetInfo tells in full.
    AskAgain,
}

impl NodeView {
    pub fn learn(&mut self, mut info: v1::GetInfoResponse) -> Effect {
        let groups =
            std::mem::take(&mut info.groups).into_iter().map(|g| (g.group_id, g)).collect();
        let peers = std::mem::take(&mut info.peers).into_iter().map(|p| (p.node_id, p)).collect();
        // Counters move all the time and mean nothing here.
        info.stats = None;
        if let Some(tls) = &mut info.tls {
            (tls.plain_clients, tls.plain_peers) = (0, 0);
        }
        let changed =
            self.identity.as_ref() != Some(&info) || self.groups != groups || self.peers != peers;
        self.identity = Some(info);
        self.groups = groups;
        self.peers = peers;
        if changed { Effect::Changed } else { Effect::None }
    }

    /// Folds one event of the stream. A snapshot comes in parts, which only add: what is gone
    /// since the stream before was cleared by `restart`.
    pub fn fold(&mut self, event: Kind) -> Effect {
        match event {
            Kind::Snapshot(snapshot) => {
                self.groups.extend(snapshot.groups.into_iter().map(|g| (g.group_id, g)));
                self.peers.extend(snapshot.peers.into_iter().map(|p| (p.node_id, p)));
                Effect::Changed
            }
            Kind::Synced(_) => {
                self.link = Link::Live;
                self.error = None;
                Effect::AskAgain
            }
            Kind::LeaderUpdated(update) => self.leader(&update),
            Kind::MemberReady(ready) => {
                if let Some(group) = self.groups.get_mut(&ready.group_id) {
                    group.phase = v1::GroupPhase::Ready.into();
                }
                Effect::AskAgain
            }
            Kind::MembershipChanged(_)
            | Kind::SnapshotRecovered(_)
            | Kind::SnapshotReceived(_)
            | Kind::MemberClosed(_) => Effect::AskAgain,
            Kind::ConnectionEstablished(_) | Kind::ConnectionFailed(_) => Effect::AskAgain,
            Kind::Heartbeat(_)
            | Kind::ServiceConfigChanged(_)
            | Kind::SendSnapshotStarted(_)
            | Kind::SendSnapshotCompleted(_)
            | Kind::SendSnapshotAborted(_)
            | Kind::SnapshotCreated(_)
            | Kind::SnapshotCompacted(_)
            | Kind::LogCompacted(_)
            | Kind::LogdbCompacted(_) => Effect::None,
        }
    }

    /// An event of an older term than known arrives when GetInfo overtook the stream.
    fn leader(&mut self, update: &v1::LeaderUpdatedEvent) -> Effect {
        match self.groups.get_mut(&update.group_id) {
            Some(group) if update.term >= group.term => {
                group.term = update.term;
                group.leader = update.leader;
                Effect::AskAgain
            }
            Some(_) => Effect::None,
            None => Effect::AskAgain,
        }
    }

    /// A new stream begins with everything; what it does not say is gone.
    pub fn restart(&mut self) {
        self.groups.clear();
        self.peers.clear();
    }

    /// The stream broke or went silent: keep what was known, say that it is not known now.
    pub fn lost(&mut self, error: String) {
        if self.link == Link::Live {
            self.link = Link::Unknown;
        }
        self.error = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u32, term: u64, leader: u64) -> v1::GroupState {
        v1::GroupState { group_id: id, term, leader, ..v1::GroupState::default() }
    }

    fn snapshot(groups: Vec<v1::GroupState>) -> Kind {
        Kind::Snapshot(v1::NodeSnapshot { groups, peers: Vec::new() })
    }

    #[test]
    fn a_view_is_live_after_the_marker_and_follows_leaders() {
        let mut view = NodeView::default();
        view.fold(snapshot(vec![group(1, 2, 7)]));
        view.fold(snapshot(vec![group(2, 2, 8)]));
        assert_eq!(view.link, Link::Connecting);
        view.fold(Kind::Synced(v1::Synced {}));
        assert_eq!(view.link, Link::Live);
        view.fold(Kind::LeaderUpdated(v1::LeaderUpdatedEvent { group_id: 1, term: 3, leader: 9 }));
        let old = v1::LeaderUpdatedEvent { group_id: 1, term: 2, leader: 7 };
        assert_eq!(view.fold(Kind::LeaderUpdated(old)), Effect::None);
        assert_eq!((view.groups[&1].leader, view.groups[&2].leader), (9, 8));
    }

    #[test]
    fn a_lost_node_is_unknown_and_keeps_what_was_said() {
        let mut view = NodeView::default();
        view.lost("refused".into());
        assert_eq!(view.link, Link::Connecting, "never seen is not unknown");
        view.fold(snapshot(vec![group(1, 2, 7)]));
        view.fold(Kind::Synced(v1::Synced {}));
        view.lost("silent".into());
        assert_eq!((view.link, view.groups.len()), (Link::Unknown, 1));
    }

    #[test]
    fn counters_alone_change_nothing() {
        let mut view = NodeView::default();
        let mut info = v1::GetInfoResponse { node_id: 3, ..v1::GetInfoResponse::default() };
        assert_eq!(view.learn(info.clone()), Effect::Changed);
        info.stats = Some(v1::NodeStats { rounds: 5, ..v1::NodeStats::default() });
        assert_eq!(view.learn(info), Effect::None);
    }
}

//! What a group that rests needs of raft: clocks that stand still by agreement, and may be set.
//!
//! raft knows nothing of this. Its public fields `leader_id` and `election_elapsed` are set here,
//! and only here; who may rest, and when it must wake, is the owner's decision
//! (`shard::contract`).

use crate::{Group, WAITING_TICKS};
use raft::{ProgressState, StateRole};

impl Group {
    pub fn is_follower(&self) -> bool {
        self.node.raft.state == StateRole::Follower
    }

    pub fn is_pre_candidate(&self) -> bool {
        self.node.raft.state == StateRole::PreCandidate
    }

    /// Nothing of this leader is on its way: no entry, no change, no transfer, no read, no record.
    pub fn is_at_rest(&self) -> bool {
        let (raft, last) = (&self.node.raft, self.last_index());
        let log = &raft.raft_log;
        log.committed == last
            && log.persisted == last
            && self.applied == last
            && self.outstanding.is_empty()
            && self.installing.is_none()
            && self.fetching.is_none()
            && !raft.has_pending_conf()
            && raft.lead_transferee.is_none()
            && raft.pending_read_count() == 0
            && raft.commit_to_current_term()
    }

    /// On the leader: the member has everything and knows that it is committed.
    pub fn is_fed(&self, member_id: u64) -> bool {
        let last = self.last_index();
        let progress = self.node.raft.prs().get(member_id);
        progress.is_some_and(|p| {
            p.matched == last && p.committed_index == last && p.state != ProgressState::Snapshot
        })
    }

    /// On the leader: most voters know that the entry at `index` is committed.
    pub fn is_known_by_quorum(&self, index: u64) -> bool {
        let raft = &self.node.raft;
        let knows = |id: u64| match id == self.member_id {
            true => raft.raft_log.committed >= index,
            false => raft.prs().get(id).is_some_and(|p| p.committed_index >= index),
        };
        let voters: Vec<u64> = self.configuration.voters().map(|m| m.member_id).collect();
        2 * voters.iter().filter(|id| knows(**id)).count() > voters.len()
    }

    /// The clock begins anew: a follower's at the start of its rest, a leader's check of its quorum
    /// at the end, for it stood still meanwhile.
    pub fn reset_clock(&mut self) {
        self.node.raft.election_elapsed = 0;
    }

    /// Nobody leads as far as this member knows: it neither waits for a leader nor protects one.
    pub fn forget_leader(&mut self) {
        if !self.is_leader() {
            self.node.raft.leader_id = 0;
        }
    }

    /// On the leader: whoever it heard before it rested counts no more; who answers within an
    /// election timeout from now does.
    pub fn forget_activity(&mut self) {
        let own = self.member_id;
        self.node.raft.mut_prs().quorum_recently_active(own);
    }

    /// On the leader: heartbeats to all members now.
    pub fn ping(&mut self) {
        self.node.ping();
    }

    /// A member without a leader is to campaign in so many ticks.
    pub fn campaign_in(&mut self, ticks: usize) {
        let raft = &mut self.node.raft;
        raft.election_elapsed = raft.randomized_election_timeout().saturating_sub(ticks);
    }

    /// Its request for pre-votes went out just now and may have been lost: again soon.
    pub fn retry_campaign(&mut self) {
        let odd = crate::mix(self.member_id ^ self.timing.seed) as usize % 2;
        self.campaign_in(WAITING_TICKS + odd);
    }

    /// Whether the last tick made this member ask for pre-votes.
    pub fn has_just_asked(&self) -> bool {
        self.is_pre_candidate() && self.node.raft.election_elapsed == 0
    }

    pub fn may_lead(&self) -> bool {
        self.node.raft.promotable()
    }
}

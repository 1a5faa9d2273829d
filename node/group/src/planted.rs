//! Defects put in on purpose, for the simulation to find: one that finds none proves nothing.
//! Built with feature `planted` only, which no shipped program enables.

use crate::{Group, Role};
use raft::eraftpb::{ConfChange, ConfChangeType};
use raft::{ReadOnlyOption, StateRole};

/// What a member does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// A leader commits whatever a quorum holds, also entries of earlier terms alone (Raft §5.4.2).
    CommitsOlderTerms,
    /// A leader answers reads because it believes that it still leads.
    ReadsByLease,
    /// Learners count for the quorum and vote.
    CountsLearners,
    /// A change is proposed while another is under way.
    ChangesAtOnce,
}

impl Group {
    /// From now on this member has the defect.
    pub fn plant(&mut self, defect: Option<Defect>) {
        self.planted = defect;
        match defect {
            Some(Defect::ReadsByLease) => {
                self.node.raft.read_only.option = ReadOnlyOption::LeaseBased;
            }
            Some(Defect::CountsLearners) => {
                let learners = self.configuration.members.iter();
                let learners = learners.filter(|m| m.role == Role::Learner);
                let learners: Vec<u64> = learners.map(|m| m.member_id).collect();
                learners.into_iter().for_each(|member_id| self.let_vote(member_id));
            }
            Some(Defect::CommitsOlderTerms | Defect::ChangesAtOnce) | None => {}
        }
    }

    /// After anything that may have moved what the members hold.
    pub(crate) fn planted_commit(&mut self) {
        let raft = &mut self.node.raft;
        if self.planted == Some(Defect::CommitsOlderTerms) && raft.state == StateRole::Leader {
            let held = raft.mut_prs().maximal_committed_index().0;
            raft.raft_log.commit_to(held);
        }
    }

    /// Before a change is proposed.
    pub(crate) fn planted_change(&mut self) {
        if self.planted == Some(Defect::ChangesAtOnce) {
            self.node.raft.pending_conf_index = 0;
        }
    }

    /// After a change was applied.
    pub(crate) fn planted_promotion(&mut self, change: &ConfChange) {
        let learns = change.change_type() == ConfChangeType::AddLearnerNode;
        if self.planted == Some(Defect::CountsLearners) && learns {
            self.let_vote(change.node_id);
        }
    }

    /// raft takes a learner for a voter; the configuration does not say so.
    fn let_vote(&mut self, member_id: u64) {
        let mut change = ConfChange { node_id: member_id, ..Default::default() };
        change.set_change_type(ConfChangeType::AddNode);
        // Refused at worst, and then the defect is not there.
        let _ = self.node.apply_conf_change(&change);
    }
}

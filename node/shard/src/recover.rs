//! Recovery by force: the one call that may lose acknowledged commands, for a group whose majority
//! is gone for good. It needs a fence, the right member, the number of the recovery, and a group
//! that has no majority as far as this node can see.

use crate::changes::{failed, unavailable};
use crate::io::AdminAnswer;
use crate::shard::Shard;
use crate::{AdminError, AdminErrorKind, Fence};
use multiraft_proto::v1::ForceRecoverResponse;

impl Shard {
    pub(crate) fn force_recover(
        &mut self,
        token: u64,
        id: u32,
        member_id: u64,
        (recovery, version): (u64, u64),
        fence: Option<&Fence>,
    ) -> Result<(), AdminError> {
        if fence.is_none() {
            let message = "fence: must be set; a recovery by force may lose acknowledged commands";
            return Err(AdminError::new(AdminErrorKind::InvalidArgument, message));
        }
        let facts = self.check_fence(fence)?;
        let neighbours = self.neighbours(id);
        let replica = self.replicas.get_mut(&id).filter(|r| r.group.member_id() == member_id);
        let Some(replica) = replica else {
            let message = format!("member_id {member_id}: is not on this node in group {id}");
            return Err(AdminError::new(AdminErrorKind::NotFound, message));
        };
        let present = replica.group.configuration();
        let is_done = present.recovery == recovery && present.members.len() == 1;
        if !is_done {
            if recovery != present.recovery + 1 {
                return Err(failed(format!(
                    "recovery: group {id} was recovered {} times; the next number is {}",
                    present.recovery,
                    present.recovery + 1
                )));
            }
            if version != 0 && version != present.version {
                return Err(failed(format!(
                    "version: group {id} has version {} here, not {version}",
                    present.version
                )));
            }
            if replica.role().is_none() {
                return Err(failed(format!("member_id {member_id}: was removed from group {id}")));
            }
            let voters = replica.group.configuration().voters().count();
            let here = replica.sound_voters(&neighbours).len();
            if replica.group.leader() != 0 || 2 * here > voters {
                return Err(failed(format!(
                    "group_id {id}: {here} of {voters} voters are connected and sound; while there is a \
                     majority, change members instead"
                )));
            }
            if !replica.group.is_durable() || replica.group.has_ready() {
                return Err(unavailable(format!("group_id {id}: is busy; repeat")));
            }
        }
        let (last_term, last_index) = replica.group.last_entry();
        if !is_done {
            replica.group.recover(recovery);
            replica.wake();
            replica.group.campaign();
        }
        let group = Some(replica.group.configuration().to_wire(id, member_id));
        let (version, stored) =
            (replica.group.configuration().version, replica.stored_configuration());
        self.store_facts(facts);
        if !is_done {
            self.ctx.record_group(id).configuration = Some((version, stored));
            self.mark(id);
        }
        let answer = ForceRecoverResponse { group, last_term, last_index };
        self.answer_durably(token, AdminAnswer::Recovered(answer));
        Ok(())
    }
}

//! Candidates that queue for leadership.
//!
//! The leader is the first of the queue, so nothing can be led by somebody who has left. The term
//! counts up whenever another candidate comes to lead, and only then.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;
use imbl::Vector;
use multiraft_proto::election as wire;
use multiraft_proto::log::election_record::Record;
use multiraft_proto::log::{ElectionCandidate, ElectionRecord};
use multiraft_proto::rpc::election as operation;

use super::checks::check_key;
use super::{
    At, Call, CommandKey, Context, Failure, Primitive, Records, RestoreContext, Service, Size,
    Status, Step, decode, decode_record, encode, unknown_operation,
};
use crate::digest::Digest;
use crate::limits::{CANDIDATES_MAX, ENTRY_OVERHEAD_BYTES};

#[derive(Clone, Debug, Default)]
pub struct LeaderElection {
    /// Number of leaders so far.
    term: u64,
    /// The leader and the candidates behind it, in their order; names are distinct.
    queue: Vector<Candidate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    name: Arc<str>,
    /// It leaves when this session ends.
    session_id: u64,
}

impl Primitive for LeaderElection {
    fn apply(&mut self, call: Call, context: &mut Context<'_>) -> Result<Step, Failure> {
        let Call { command: CommandKey { session_id, .. }, operation, input } = call;
        let output = match operation {
            operation::ENTER => {
                let wire::EnterInput { candidate } = decode(input)?;
                self.enter(&candidate, session_id, context)?;
                encode(&wire::EnterOutput { term: self.term() })
            }
            operation::WITHDRAW => {
                let wire::WithdrawInput { candidate } = decode(input)?;
                self.leave(&candidate, context)?;
                encode(&wire::WithdrawOutput { term: self.term() })
            }
            operation::ANOINT => {
                let wire::AnointInput { candidate } = decode(input)?;
                self.anoint(&candidate, context)?;
                encode(&wire::AnointOutput { term: self.term() })
            }
            operation::PROMOTE => {
                let wire::PromoteInput { candidate } = decode(input)?;
                self.promote(&candidate, context)?;
                encode(&wire::PromoteOutput { term: self.term() })
            }
            operation::DEMOTE => {
                let wire::DemoteInput { candidate } = decode(input)?;
                self.demote(&candidate, context)?;
                encode(&wire::DemoteOutput { term: self.term() })
            }
            operation::EVICT => {
                let wire::EvictInput { candidate } = decode(input)?;
                self.leave(&candidate, context)?;
                encode(&wire::EvictOutput { term: self.term() })
            }
            other => return Err(unknown_operation(Service::LeaderElection, other)),
        };
        Ok(Step::Complete(output))
    }

    fn query(&self, operation: u32, input: Bytes) -> Result<Bytes, Failure> {
        match operation {
            operation::GET_TERM => {
                let wire::GetTermInput {} = decode(input)?;
                Ok(encode(&wire::GetTermOutput { term: self.term() }))
            }
            other => Err(unknown_operation(Service::LeaderElection, other)),
        }
    }

    fn list(&self, operation: u32, input: Bytes) -> Result<Records<'_>, Failure> {
        match operation {
            operation::WATCH => {
                let wire::WatchInput {} = decode(input)?;
                let present = (self.term > 0).then(|| self.watch_output());
                Ok(Box::new(present.into_iter()))
            }
            other => Err(unknown_operation(Service::LeaderElection, other)),
        }
    }

    fn on_command_canceled(&mut self, _: CommandKey, _: &mut Context<'_>) {}

    fn on_session_closed(&mut self, session_id: u64, context: &mut Context<'_>) {
        self.change(context, |queue| queue.retain(|candidate| candidate.session_id != session_id));
    }

    fn on_timer(&mut self, _: u64, _: &mut Context<'_>) {}

    fn size(&self) -> Size {
        let Self { term: _, queue } = self;
        // As many as each answer lists.
        let one = |candidate: &Candidate| ENTRY_OVERHEAD_BYTES + candidate.name.len() as u64;
        Size::new(queue.len(), queue.iter().map(one).sum())
    }

    fn digest(&self, digest: &mut Digest) {
        let Self { term, queue } = self;
        digest.word(*term);
        digest.number(queue.len());
        queue.iter().for_each(|candidate| candidate.digest(digest));
    }

    fn snapshot(&self) -> Records<'_> {
        let Self { term, queue } = self;
        let queue = queue.iter().map(|Candidate { name, session_id }| {
            let (name, session_id) = (name.to_string(), *session_id);
            Record::Candidate(ElectionCandidate { name, session_id })
        });
        let records = iter::once(Record::Term(*term)).chain(queue);
        Box::new(records.map(|record| encode(&ElectionRecord { record: Some(record) })))
    }

    fn restore(&mut self, record: Bytes, context: &mut RestoreContext<'_>) -> Result<(), String> {
        let ElectionRecord { record } = decode_record(record)?;
        match record.ok_or("record is absent, or of an unknown kind")? {
            Record::Term(term) => self.term = term,
            Record::Candidate(ElectionCandidate { name, session_id }) => {
                context.check_attached(session_id)?;
                if self.position(&name).is_some() {
                    return Err("a candidate is there twice".into());
                }
                self.queue.push_back(Candidate { name: name.into(), session_id });
            }
        }
        Ok(())
    }
}

impl LeaderElection {
    fn enter(
        &mut self,
        name: &str,
        session_id: u64,
        context: &mut Context<'_>,
    ) -> Result<(), Failure> {
        check_candidate(name)?;
        if self.position(name).is_some() {
            return Ok(());
        }
        if self.queue.len() >= CANDIDATES_MAX {
            let message = format!("the election has {CANDIDATES_MAX} candidates already");
            return Err(Failure::new(Status::Conflict, message));
        }
        self.change(context, |queue| queue.push_back(Candidate { name: name.into(), session_id }));
        Ok(())
    }

    fn leave(&mut self, name: &str, context: &mut Context<'_>) -> Result<(), Failure> {
        if let Some(place) = self.find(name)? {
            self.change(context, |queue| drop(queue.remove(place)));
        }
        Ok(())
    }

    fn anoint(&mut self, name: &str, context: &mut Context<'_>) -> Result<(), Failure> {
        if let Some(place) = self.find(name)? {
            self.change(context, |queue| {
                let candidate = queue.remove(place);
                queue.push_front(candidate);
            });
        }
        Ok(())
    }

    fn promote(&mut self, name: &str, context: &mut Context<'_>) -> Result<(), Failure> {
        if let Some(place) = self.find(name)?
            && place > 0
        {
            self.change(context, |queue| queue.swap(place - 1, place));
        }
        Ok(())
    }

    fn demote(&mut self, name: &str, context: &mut Context<'_>) -> Result<(), Failure> {
        if let Some(place) = self.find(name)?
            && place + 1 < self.queue.len()
        {
            self.change(context, |queue| queue.swap(place, place + 1));
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Result<Option<usize>, Failure> {
        check_candidate(name)?;
        Ok(self.position(name))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.queue.iter().position(|candidate| &*candidate.name == name)
    }

    /// The only way in which the queue changes: another leader is another term. There is none in
    /// vacancy.
    fn change(&mut self, context: &mut Context<'_>, change: impl FnOnce(&mut Vector<Candidate>)) {
        let before = self.queue.clone();
        change(&mut self.queue);
        if self.queue.front().is_some_and(|leader| Some(leader) != before.front()) {
            self.term = self.term.saturating_add(1);
        }
        if self.queue != before {
            context.changed(At::Whole, || self.watch_output());
        }
    }

    fn watch_output(&self) -> Bytes {
        encode(&wire::WatchOutput { term: self.term() })
    }

    fn term(&self) -> Option<wire::Term> {
        let mut names = self.queue.iter().map(|candidate| candidate.name.to_string());
        let leader = names.next().unwrap_or_default();
        Some(wire::Term { leader, candidates: names.collect(), index: self.term })
    }
}

impl Candidate {
    fn digest(&self, digest: &mut Digest) {
        let Self { name, session_id } = self;
        digest.bytes(name.as_bytes());
        digest.word(*session_id);
    }
}

/// An empty name would read as vacancy.
fn check_candidate(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::invalid("candidate: is empty"));
    }
    check_key("candidate", name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;
    use crate::timers::Timers;

    fn candidate() -> Candidate {
        Candidate { name: "a".into(), session_id: 1 }
    }

    #[test]
    fn each_field_of_an_election_is_in_the_digest() {
        each_field_changes_the_digest!(LeaderElection::default(), LeaderElection::digest, LeaderElection {
            term => *term = 1,
            queue => queue.push_back(candidate()),
        });
        each_field_changes_the_digest!(candidate(), Candidate::digest, Candidate {
            name => *name = "b".into(),
            session_id => *session_id = 2,
        });
    }

    #[test]
    fn records_that_contradict_each_other_are_refused() {
        let candidate = |name: &str, session_id| {
            let name = name.to_owned();
            let record = Some(Record::Candidate(ElectionCandidate { name, session_id }));
            ElectionRecord { record }
        };
        let restored = |records: &[ElectionRecord]| {
            crate::primitives::restored(&mut LeaderElection::default(), records).err()
        };
        assert_eq!(restored(&[candidate("a", 1), candidate("b", 1)]), None);
        let absent = restored(&[ElectionRecord { record: None }]);
        assert_eq!(absent.unwrap(), "record is absent, or of an unknown kind");
        assert_eq!(restored(&[candidate("a", 2)]).unwrap(), "session 2 is not attached");
        let twice = restored(&[candidate("a", 1), candidate("a", 1)]);
        assert_eq!(twice.unwrap(), "a candidate is there twice");
    }

    #[test]
    fn one_candidate_too_many_is_refused() {
        let mut election = LeaderElection::default();
        let (mut timers, mut emitted) = (Timers::default(), Vec::new());
        let mut context = Context::new((1, 1), 1, &mut timers, &mut emitted);
        for number in 0..CANDIDATES_MAX {
            election.enter(&number.to_string(), 1, &mut context).unwrap();
        }
        assert_eq!(election.enter("0", 1, &mut context), Ok(()));
        assert_eq!(
            election.enter("another", 1, &mut context).unwrap_err().status,
            Status::Conflict
        );
        assert_eq!((election.queue.len(), election.term), (CANDIDATES_MAX, 1));
    }
}

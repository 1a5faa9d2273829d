//! Models without keys: an election, a set, a value.

use std::collections::BTreeSet;

use bytes::Bytes;
use multiraft_machine::Status;
use multiraft_proto::rpc;
use multiraft_proto::{election, set, value};

use super::{Model, Outcome, compare, encode, unknown};
use crate::uses::Use;

#[derive(Default)]
pub struct Election {
    term: u64,
    queue: Vec<String>,
}

impl Election {
    fn term(&self) -> Option<election::Term> {
        let leader = self.queue.first().cloned().unwrap_or_default();
        let candidates = self.queue.iter().skip(1).cloned().collect();
        Some(election::Term { leader, candidates, index: self.term })
    }
}

impl Model for Election {
    fn command(&mut self, one: &Use, _: u64, told: &mut Vec<Bytes>) -> Outcome {
        use rpc::election as operation;
        let before = self.queue.clone();
        let (name, last) = (one.name(), before.len().saturating_sub(1));
        let place = before.iter().position(|other| *other == name);
        match (one.operation, place) {
            (operation::ENTER, None) => self.queue.push(name),
            (operation::WITHDRAW | operation::EVICT, Some(n)) => drop(self.queue.remove(n)),
            (operation::ANOINT, Some(n)) => self.queue[..=n].rotate_right(1),
            (operation::PROMOTE, Some(n)) if n > 0 => self.queue.swap(n - 1, n),
            (operation::DEMOTE, Some(n)) if n < last => self.queue.swap(n, n + 1),
            _ => {}
        }
        if !self.queue.is_empty() && self.queue.first() != before.first() {
            self.term += 1;
        }
        let term = self.term();
        if self.queue != before {
            told.push(encode(election::WatchOutput { term: term.clone() }));
        }
        // All outputs have the same field.
        Ok(encode(election::EnterOutput { term }))
    }

    fn query(&self, _: &Use) -> Outcome {
        Ok(encode(election::GetTermOutput { term: self.term() }))
    }

    fn list(&self) -> Vec<Bytes> {
        let present = (self.term > 0).then(|| encode(election::WatchOutput { term: self.term() }));
        present.into_iter().collect()
    }
}

#[derive(Default)]
pub struct Set(BTreeSet<String>);

fn element(name: &str, removed: bool) -> Bytes {
    let element = Some(set::Element { value: name.to_owned() });
    encode(set::ElementsOutput { element, removed })
}

impl Model for Set {
    fn command(&mut self, one: &Use, _: u64, told: &mut Vec<Bytes>) -> Outcome {
        use rpc::set as operation;
        let name = one.name();
        Ok(match one.operation {
            operation::ADD => {
                let added = self.0.insert(name.clone());
                told.extend(added.then(|| element(&name, false)));
                encode(set::AddOutput { added })
            }
            operation::REMOVE => {
                let removed = self.0.remove(&name);
                told.extend(removed.then(|| element(&name, true)));
                encode(set::RemoveOutput { removed })
            }
            operation::CLEAR => {
                told.extend(std::mem::take(&mut self.0).iter().map(|name| element(name, true)));
                Bytes::new()
            }
            _ => unknown(one),
        })
    }

    fn query(&self, one: &Use) -> Outcome {
        Ok(encode(set::ContainsOutput { contains: self.0.contains(&one.name()) }))
    }

    fn list(&self) -> Vec<Bytes> {
        self.0.iter().map(|name| element(name, false)).collect()
    }
}

#[derive(Default)]
pub struct Value(Option<value::IndexedValue>);

impl Model for Value {
    fn command(&mut self, one: &Use, index: u64, told: &mut Vec<Bytes>) -> Outcome {
        use rpc::value as operation;
        let present = self.0.as_ref().map(|present| present.index);
        match one.operation {
            operation::INSERT if present.is_some() => return Err(Status::AlreadyExists),
            operation::UPDATE | operation::DELETE => compare(one, present)?,
            _ => {}
        }
        let stays = one.operation != operation::DELETE;
        let now = stays.then(|| value::IndexedValue { value: one.bytes(), index });
        told.push(encode(value::WatchOutput { value: now.clone() }));
        let prev_value = std::mem::replace(&mut self.0, now);
        Ok(match one.operation {
            operation::SET => encode(value::SetOutput { index, prev_value }),
            operation::INSERT => encode(value::InsertOutput { index }),
            operation::UPDATE => encode(value::UpdateOutput { index, prev_value }),
            operation::DELETE => encode(value::DeleteOutput { value: prev_value }),
            _ => unknown(one),
        })
    }

    fn query(&self, _: &Use) -> Outcome {
        let value = Some(self.0.clone().ok_or(Status::NotFound)?);
        Ok(encode(value::GetOutput { value }))
    }

    fn list(&self) -> Vec<Bytes> {
        let output = |value| encode(value::WatchOutput { value: Some(value) });
        self.0.clone().map(output).into_iter().collect()
    }
}

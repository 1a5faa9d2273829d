//! A set, a value, an election.

use std::collections::BTreeSet;

use fastrand::Rng;
use multiraft_client::{
    Answer, Change, Cluster, Election, Error, FencingToken, Set, Status, Stream, Term, Value,
    Version, Versioned, Write,
};

use super::judge::{Kind, Outcome};
use super::{Draw, Used, key, versioned};

#[derive(Debug, Default)]
pub struct Elements(BTreeSet<String>);

#[derive(Clone, Debug)]
pub enum SetCall {
    Add(String),
    Remove(String),
    Contains(String),
}

impl Kind for Elements {
    const NAME: &'static str = "set";
    type Call = SetCall;
    type Output = bool;
    type Event = Change<String>;

    fn is_read(call: &SetCall) -> bool {
        matches!(call, SetCall::Contains(_))
    }

    fn act(&mut self, call: &SetCall, _: u64, told: &mut Vec<Change<String>>) -> Outcome<Self> {
        Ok(match call {
            SetCall::Add(element) => {
                let added = self.0.insert(element.clone());
                told.extend(added.then(|| Change::Inserted(element.clone())));
                added
            }
            SetCall::Remove(element) => {
                let removed = self.0.remove(element);
                let change = Change::Removed { value: element.clone(), expired: false };
                told.extend(removed.then_some(change));
                removed
            }
            SetCall::Contains(element) => self.0.contains(element),
        })
    }
}

impl Used for Elements {
    const SKIPS: bool = false;
    type Handle = Set;

    fn handle(cluster: &Cluster, name: &str) -> Set {
        cluster.set(name)
    }

    fn draw(rng: &mut Rng, _: Draw) -> SetCall {
        let element = key(rng);
        match rng.u32(..3) {
            0 => SetCall::Remove(element),
            1 => SetCall::Contains(element),
            _ => SetCall::Add(element),
        }
    }

    fn last(_: u64) -> Vec<SetCall> {
        let both = |key: String| [SetCall::Remove(key.clone()), SetCall::Add(key)];
        super::keys().flat_map(both).collect()
    }

    async fn ask(set: &Set, call: &SetCall) -> Result<Answer<bool>, Error> {
        match call {
            SetCall::Add(element) => set.add(element).await,
            SetCall::Remove(element) => set.remove(element).await,
            SetCall::Contains(element) => set.contains(element).await,
        }
    }

    async fn stream(set: &Set) -> Result<Stream<Change<String>>, Error> {
        set.events().await
    }
}

#[derive(Debug, Default)]
pub struct Single(Option<Versioned>);

#[derive(Clone, Debug)]
pub enum ValueCall {
    Set(u64),
    Insert(u64),
    Update(u64, Option<Version>),
    Delete(Option<Version>),
    Get,
}

/// The version that was written, if any, and what was there: before, or that was read.
type Wrote = (Option<Version>, Option<Versioned>);

impl Kind for Single {
    const NAME: &'static str = "value";
    type Call = ValueCall;
    type Output = Wrote;
    type Event = Change<Versioned>;

    fn is_read(call: &ValueCall) -> bool {
        matches!(call, ValueCall::Get)
    }

    fn act(
        &mut self,
        call: &ValueCall,
        index: u64,
        told: &mut Vec<Change<Versioned>>,
    ) -> Outcome<Self> {
        let value = match call {
            ValueCall::Get => return Ok((None, self.0.clone())),
            ValueCall::Insert(_) if self.0.is_some() => return Err(Status::AlreadyExists),
            ValueCall::Set(value) | ValueCall::Insert(value) => Some(*value),
            ValueCall::Update(value, wanted) => {
                super::compare(self.0.as_ref(), *wanted)?;
                Some(*value)
            }
            ValueCall::Delete(wanted) => {
                super::compare(self.0.as_ref(), *wanted)?;
                None
            }
        };
        let now = value.map(|value| versioned(value, index));
        let before = std::mem::replace(&mut self.0, now.clone());
        told.extend(super::change(before.clone(), now));
        let version = value.map(|_| Version(index));
        Ok((version, before))
    }
}

impl Used for Single {
    const SKIPS: bool = false;
    type Handle = Value;

    fn handle(cluster: &Cluster, name: &str) -> Value {
        cluster.value(name)
    }

    fn draw(rng: &mut Rng, Draw { value, version }: Draw) -> ValueCall {
        match rng.u32(..6) {
            0 => ValueCall::Delete(version),
            1 => ValueCall::Insert(value),
            2 => ValueCall::Get,
            3 => ValueCall::Set(value),
            _ => ValueCall::Update(value, version),
        }
    }

    fn last(value: u64) -> Vec<ValueCall> {
        vec![ValueCall::Set(value)]
    }

    async fn ask(value: &Value, call: &ValueCall) -> Result<Answer<Wrote>, Error> {
        let wrote = |answer: Answer<multiraft_client::Written>| {
            answer.map(|written| (Some(written.version), written.previous))
        };
        Ok(match call {
            ValueCall::Set(new) => wrote(value.set(super::text(*new)).await?),
            ValueCall::Insert(new) => wrote(value.insert(super::text(*new), None).await?),
            ValueCall::Update(new, version) => {
                let write = Write { if_version: *version, ..Write::default() };
                wrote(value.update(super::text(*new), write).await?)
            }
            ValueCall::Delete(version) => value.delete(*version).await?.map(|was| (None, was)),
            ValueCall::Get => value.get().await?.map(|is| (None, is)),
        })
    }

    async fn stream(value: &Value) -> Result<Stream<Change<Versioned>>, Error> {
        value.events().await
    }
}

#[derive(Debug, Default)]
pub struct Candidates {
    term: u64,
    queue: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum ElectionCall {
    Enter(String),
    Withdraw(String),
    Anoint(String),
    Promote(String),
    Demote(String),
    Evict(String),
    Term,
}

impl Candidates {
    fn term(&self) -> Term {
        let mut queue = self.queue.iter().cloned();
        Term { token: FencingToken(self.term), leader: queue.next(), queue: queue.collect() }
    }
}

impl Kind for Candidates {
    const NAME: &'static str = "election";
    type Call = ElectionCall;
    type Output = Term;
    type Event = Term;

    fn is_read(call: &ElectionCall) -> bool {
        matches!(call, ElectionCall::Term)
    }

    fn act(&mut self, call: &ElectionCall, _: u64, told: &mut Vec<Term>) -> Outcome<Self> {
        use ElectionCall::*;
        let before = self.queue.clone();
        let place = |name| before.iter().position(|other| other == name);
        let last = before.len().saturating_sub(1);
        match call {
            Enter(name) if place(name).is_none() => self.queue.push(name.clone()),
            Withdraw(name) | Evict(name) => self.queue.retain(|other| other != name),
            Anoint(name) => {
                if let Some(n) = place(name) {
                    self.queue[..=n].rotate_right(1);
                }
            }
            Promote(name) => {
                if let Some(n) = place(name).filter(|n| *n > 0) {
                    self.queue.swap(n - 1, n);
                }
            }
            Demote(name) => {
                if let Some(n) = place(name).filter(|n| *n < last) {
                    self.queue.swap(n, n + 1);
                }
            }
            Enter(_) | Term => {}
        }
        if !self.queue.is_empty() && self.queue.first() != before.first() {
            self.term += 1;
        }
        if self.queue != before {
            told.push(self.term());
        }
        Ok(self.term())
    }
}

impl Used for Candidates {
    /// It is watched: at another node it begins with the present term.
    const SKIPS: bool = true;
    type Handle = Election;

    fn handle(cluster: &Cluster, name: &str) -> Election {
        cluster.election(name)
    }

    fn draw(rng: &mut Rng, _: Draw) -> ElectionCall {
        use ElectionCall::*;
        let name = key(rng);
        match rng.u32(..8) {
            0 => Withdraw(name),
            1 => Anoint(name),
            2 => Promote(name),
            3 => Demote(name),
            4 => Evict(name),
            5 => Term,
            _ => Enter(name),
        }
    }

    fn last(value: u64) -> Vec<ElectionCall> {
        vec![ElectionCall::Enter(format!("last-{value}"))]
    }

    async fn ask(election: &Election, call: &ElectionCall) -> Result<Answer<Term>, Error> {
        match call {
            ElectionCall::Enter(name) => election.enter(name).await,
            ElectionCall::Withdraw(name) => election.withdraw(name).await,
            ElectionCall::Anoint(name) => election.anoint(name).await,
            ElectionCall::Promote(name) => election.promote(name).await,
            ElectionCall::Demote(name) => election.demote(name).await,
            ElectionCall::Evict(name) => election.evict(name).await,
            ElectionCall::Term => election.term().await,
        }
    }

    async fn stream(election: &Election) -> Result<Stream<Term>, Error> {
        election.watch().await
    }
}

//! Queries that go on: callers of this replica that are told of every change of a primitive.
//!
//! They are no part of the replicated state: each lives on the replica that serves it, in neither its
//! hash nor its snapshots, and ends with the replica.

use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};
use multiraft_proto::{indexedmap, map, rpc};

use crate::answer::{Answer, Body, Effect, Query, Rejection, Status};
use crate::commands::Waiter;
use crate::keep_alive::KeepAlive;
use crate::machine::operation_output;
use crate::primitives::Failure;

/// Who watches a primitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Watch {
    session_id: u64,
    primitive_id: u64,
    /// Number of the query in its session; 0 = it has none, and no keep-alive ends it.
    sequence_num: u64,
    waiter: Waiter,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Watches {
    by_primitive: OrdSet<(u64, Waiter)>,
    by_session: OrdSet<Watch>,
    by_waiter: OrdMap<Waiter, (Watch, Arc<Selection>)>,
}

/// Where a primitive has changed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At<'a> {
    Key(&'a str),
    Index(u64),
    Whole,
}

/// Which changes a watcher is told of: those of what its query lists.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    Keys { prefix: String, start: String, end: String },
    Indexes { start: u64, end: u64 },
    All,
}

/// What the watchers of a primitive are to be told.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    outputs: Vec<(Place, Bytes)>,
    /// There were more changes than were kept.
    pub missed: bool,
}

/// [`At`], kept.
#[derive(Debug)]
enum Place {
    Key(String),
    Index(u64),
    Whole,
}

impl Changes {
    pub fn push(&mut self, at: At<'_>, output: Bytes) {
        let place = match at {
            At::Key(key) => Place::Key(key.to_owned()),
            At::Index(index) => Place::Index(index),
            At::Whole => Place::Whole,
        };
        self.outputs.push((place, output));
    }
}

impl Selection {
    /// Of a query that streams; `None` when it does not go on.
    pub fn of(query: &Query) -> Option<Self> {
        let input = query.input.clone();
        match query.operation {
            rpc::election::WATCH | rpc::value::WATCH => Some(Self::All),
            rpc::indexedmap::ENTRIES => {
                let indexedmap::EntriesInput { watch, start, end, .. } =
                    prost::Message::decode(input).ok()?;
                watch.then_some(Self::Indexes { start, end })
            }
            // The same fields in all of them.
            _ => {
                let map::EntriesInput { watch, prefix, start, end, .. } =
                    prost::Message::decode(input).ok()?;
                watch.then_some(Self::Keys { prefix, start, end })
            }
        }
    }

    fn contains(&self, place: &Place) -> bool {
        match (self, place) {
            (Self::Keys { prefix, start, end }, Place::Key(key)) => {
                key.starts_with(prefix) && key >= start && (end.is_empty() || key < end)
            }
            (Self::Indexes { start, end }, Place::Index(index)) => {
                index >= start && (*end == 0 || index < end)
            }
            _ => true,
        }
    }
}

impl Watches {
    pub fn len(&self) -> usize {
        self.by_waiter.len()
    }

    pub fn is_watched(&self, primitive_id: u64) -> bool {
        !self.by_primitive.is_empty() && self.of_primitive(primitive_id).next().is_some()
    }

    /// Lets the caller of a query be told.
    pub fn insert(&mut self, query: &Query, selection: Selection, waiter: Waiter) {
        let Query { session_id, primitive_id, sequence_num, .. } = *query;
        let watch = Watch { session_id, primitive_id, sequence_num, waiter };
        self.remove(waiter);
        self.by_primitive.insert((primitive_id, waiter));
        self.by_session.insert(watch);
        self.by_waiter.insert(waiter, (watch, Arc::new(selection)));
    }

    pub fn remove(&mut self, waiter: Waiter) {
        if let Some((watch, _)) = self.by_waiter.remove(&waiter) {
            self.by_primitive.remove(&(watch.primitive_id, waiter));
            self.by_session.remove(&watch);
        }
    }

    fn of_primitive(&self, primitive_id: u64) -> impl Iterator<Item = Waiter> + '_ {
        let range = (primitive_id, Waiter::FIRST)..=(primitive_id, Waiter::LAST);
        self.by_primitive.range(range).map(|(_, waiter)| *waiter)
    }

    /// Tells the watchers of a primitive. Who missed changes is told that and watches no more.
    pub fn tell(
        &mut self,
        primitive_id: u64,
        index: u64,
        changes: Changes,
        effects: &mut Vec<Effect>,
    ) {
        if changes.outputs.is_empty() && !changes.missed {
            return;
        }
        let waiters: Vec<Waiter> = self.of_primitive(primitive_id).collect();
        for (place, output) in &changes.outputs {
            let mut result = operation_output(0, Ok(Body::Payload(output.clone())));
            result.set_last(false);
            let answer = Answer { index, result: Ok(result) };
            let concerned = waiters.iter().filter(|waiter| {
                self.by_waiter.get(*waiter).is_some_and(|(_, wanted)| wanted.contains(place))
            });
            effects.extend(concerned.map(|waiter| waiter.answer(answer.clone())));
        }
        if changes.missed {
            for waiter in waiters {
                self.remove(waiter);
                let message = "too many changes at once, some are missed: ask again";
                let result = Ok(operation_output(0, Err(Failure::new(Status::Conflict, message))));
                effects.push(waiter.answer(Answer { index, result }));
            }
        }
    }

    /// A keep-alive ends the watches that its client does not have open any more.
    pub fn release(
        &mut self,
        session_id: u64,
        index: u64,
        keep_alive: &KeepAlive,
        effects: &mut Vec<Effect>,
    ) {
        self.end(session_id, index, effects, |watch| {
            let number = watch.sequence_num;
            number != 0 && number <= keep_alive.through && !keep_alive.open.contains(number)
        });
    }

    /// The session closed a primitive, or (`None`) ended.
    pub fn close(
        &mut self,
        session_id: u64,
        primitive_id: Option<u64>,
        index: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.end(session_id, index, effects, |watch| {
            primitive_id.is_none_or(|id| id == watch.primitive_id)
        });
    }

    fn end(
        &mut self,
        session_id: u64,
        index: u64,
        effects: &mut Vec<Effect>,
        ends: impl Fn(&Watch) -> bool,
    ) {
        if self.by_session.is_empty() {
            return;
        }
        let watches = self.by_session.range(Watch::first_of(session_id)..);
        let of_session = watches.take_while(|watch| watch.session_id == session_id);
        let ended: Vec<Waiter> = of_session.filter(|w| ends(w)).map(|w| w.waiter).collect();
        for waiter in ended {
            self.remove(waiter);
            effects.push(waiter.answer(Answer { index, result: Err(Rejection::Canceled) }));
        }
    }
}

impl Watch {
    fn first_of(session_id: u64) -> Self {
        Self { session_id, primitive_id: 0, sequence_num: 0, waiter: Waiter::FIRST }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WATCHES_MAX;
    use crate::machine::Machine;

    #[test]
    fn one_watcher_too_many_is_refused_and_a_list_that_ends_is_not() {
        let mut machine = Machine::new();
        let query = |operation| {
            let (session_id, primitive_id, sequence_num) = (1, 1, 0);
            Query { session_id, primitive_id, operation, input: Bytes::new(), sequence_num }
        };
        let waiter = |number: usize| Waiter { origin: 1, number: number as u64 };
        for number in 0..WATCHES_MAX {
            assert_eq!(machine.watch(&query(rpc::value::WATCH), waiter(number)), Ok(true));
        }
        let other = waiter(WATCHES_MAX);
        assert!(machine.watch(&query(rpc::value::WATCH), other).is_err());
        assert_eq!(machine.watch(&query(rpc::map::ENTRIES), other), Ok(false));
        machine.unwatch(waiter(0));
        assert_eq!(machine.watch(&query(rpc::value::WATCH), other), Ok(true));
    }
}

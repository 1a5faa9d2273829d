//! What the clients of each group saw, for the checkers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use multiraft_check::indexed::{Action, Attempt, Call, Version};
use multiraft_check::outputs::{Output as Given, Outputs};
use multiraft_check::{counter, indexed, register};
use multiraft_machine::{Answer, Body, Output};
use multiraft_proto::map;

use crate::client::{Client, Done, Step, key};
use crate::report::Report;
use crate::subscriptions::{Locks, Streams};
use crate::used::Used;

/// What clients saw of one group, without indexes.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By register. 0 is the value of one never written.
    pub registers: BTreeMap<u64, Vec<register::Operation<u64>>>,
    pub counts: Vec<counter::Call>,
    /// When the increments began whose outcome no client learned.
    pub unknown: Vec<u64>,
}

#[derive(Debug, Default)]
pub struct Oracle {
    groups: BTreeMap<u32, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    counts: Vec<counter::Call>,
    /// When the increments began whose outcome no client learned.
    unknown: Vec<u64>,
    attempts: Vec<Attempt>,
    calls: Vec<Call>,
    outputs: Outputs,
    streams: Streams,
    locks: Locks,
    used: Used,
}

impl Oracle {
    /// A client begins an operation.
    pub fn begun(&mut self, client: &Client) {
        if let Step::Put { register, value } = client.step {
            let attempt = Attempt { register, value, started: client.started };
            self.groups.entry(client.group).or_default().attempts.push(attempt);
        }
    }

    pub fn streams(&mut self, group: u32) -> &mut Streams {
        &mut self.groups.entry(group).or_default().streams
    }

    pub fn locks(&mut self, group: u32) -> &mut Locks {
        &mut self.groups.entry(group).or_default().locks
    }

    pub fn used(&mut self, group: u32) -> &mut Used {
        &mut self.groups.entry(group).or_default().used
    }

    /// An answer to a command of a session came, be it to an attempt that was given up.
    pub fn output(&mut self, group: u32, (session_id, sequence_num): (u64, u64), answer: &Answer) {
        let Ok(Output::Operation { sequence, body, .. }) = &answer.result else { return };
        let bytes = match body {
            Body::Payload(bytes) => bytes.to_vec(),
            Body::PrimitiveCreated { primitive_id } => primitive_id.to_be_bytes().to_vec(),
            Body::None | Body::PrimitiveClosed => Vec::new(),
        };
        let (number, index) = (*sequence, answer.index);
        let given = Given { session_id, sequence_num, number, index, bytes };
        let seen = self.groups.entry(group).or_default();
        if let Err(fault) = seen.outputs.take(given) {
            panic!("[outputs] group {group}: {fault:?}");
        }
    }

    /// A client's operation is done.
    pub fn done(&mut self, client: &Client, done: &Done, index: u64, now: u64) {
        let seen = self.groups.entry(client.group).or_default();
        let (started, ended) = (client.started, now);
        let action = match (done, client.step) {
            (Done::Incremented(value), _) => {
                seen.counts.push(counter::Call { started, ended, delta: 1, value: *value });
                Action::Command
            }
            (Done::Read(value), _) => {
                seen.counts.push(counter::Call { started, ended, delta: 0, value: *value });
                Action::Query
            }
            (Done::Put(output), Step::Put { register, value }) => {
                assert_eq!(output.index, index, "[answer] a put states its own index");
                seen.streams.answered(index, key(register), value);
                let previous = output.prev_value.as_ref().map(version);
                Action::Write { register, value, previous }
            }
            (Done::Got(value), Step::Get { register }) => {
                Action::Read { register, seen: value.as_ref().map(version) }
            }
            (Done::Used(outcome), Step::Use(one)) => {
                seen.used.done(one, index, outcome.clone());
                if one.is_query() { Action::Query } else { Action::Command }
            }
            _ => Action::Command,
        };
        seen.calls.push(Call { started, ended, index, action });
    }

    /// A client will never learn whether its operation took effect.
    pub fn unknown(&mut self, client: &Client) {
        let seen = self.groups.entry(client.group).or_default();
        if client.step == Step::Increment {
            seen.unknown.push(client.started);
        }
    }

    /// Judges everything.
    pub fn judge(&self, report: &mut Report) {
        for (group, seen) in &self.groups {
            let increments = seen.counts.iter().filter(|call| call.delta > 0).count() as u64;
            // Every client ends with a read.
            let end = seen.counts.iter().map(|call| call.value).max().unwrap_or(0);
            let unknown = seen.unknown.len() as u64;
            counter::check_with_unknown(&seen.counts, unknown, end)
                .unwrap_or_else(|fault| panic!("[counter] group {group}: {fault:?}"));
            indexed::check(&seen.attempts, &seen.calls)
                .unwrap_or_else(|fault| panic!("[index] group {group}: {fault:?}"));
            let made: BTreeSet<_> =
                seen.attempts.iter().map(|a| (key(a.register), a.value)).collect();
            seen.streams.judge(|key, value| made.contains(&(key.to_owned(), value)));
            let puts = seen.calls.iter().filter(|c| matches!(c.action, Action::Write { .. }));
            let puts = puts.count() as u64;
            report.increments += increments;
            report.puts += puts;
            report.reads += seen.counts.len() as u64 - increments;
            report.reads +=
                seen.calls.iter().filter(|c| matches!(c.action, Action::Read { .. })).count()
                    as u64;
            report.unknown += unknown + seen.attempts.len() as u64 - puts;
            report.repeated_answers += seen.outputs.repeated();
            seen.used.judge(*group, report);
        }
    }

    /// By group.
    pub fn histories(self) -> BTreeMap<u32, History> {
        self.groups.into_iter().map(|(group, seen)| (group, seen.history())).collect()
    }
}

impl Seen {
    fn history(self) -> History {
        let mut registers: BTreeMap<u64, Vec<register::Operation<u64>>> = BTreeMap::new();
        let mut answered = BTreeMap::new();
        for call in self.calls {
            let (register, action) = match call.action {
                Action::Write { register, value, .. } => {
                    answered.insert((register, value), call.ended);
                    continue;
                }
                Action::Read { register, seen } => {
                    (register, register::Action::Read(seen.map_or(0, |seen| seen.value)))
                }
                Action::Command | Action::Query => continue,
            };
            let (started, ended) = (call.started, Some(call.ended));
            let operation = register::Operation { started, ended, action };
            registers.entry(register).or_default().push(operation);
        }
        for Attempt { register, value, started } in self.attempts {
            let ended = answered.get(&(register, value)).copied();
            let action = register::Action::Write(value);
            let operation = register::Operation { started, ended, action };
            registers.entry(register).or_default().push(operation);
        }
        History { registers, counts: self.counts, unknown: self.unknown }
    }
}

fn version(value: &map::IndexedValue) -> Version {
    Version { value: number(&value.value), index: value.index }
}

pub(crate) fn number(value: &Bytes) -> u64 {
    let bytes = value.as_ref().try_into().expect("clients write eight bytes");
    u64::from_be_bytes(bytes)
}

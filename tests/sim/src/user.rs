//! What a client does that uses the primitives with models, and watches one of them.

use bytes::Bytes;
use multiraft_machine::{Body, Query, Status};
use multiraft_shard::{Consistency, Input};

use crate::client::{Client, Done, Step};
use crate::standing::Kind;
use crate::uses::{Primitive, Use};

/// A client watches one primitive for about so many of its own calls.
const WATCHED_CALLS: u32 = 40;

/// What it knows, by [`Primitive`].
#[derive(Clone, Debug, Default)]
pub struct User {
    ids: [u64; Primitive::ALL.len()],
    /// Indexes of its last commands that had an effect: versions of what they wrote.
    versions: [u64; Primitive::ALL.len()],
    watched: Option<Primitive>,
    /// Its last command, which changes what it watches, is sent; its index once it is answered.
    mark: Option<u64>,
    /// Primitives that it reads at last.
    left: Option<usize>,
}

impl Client {
    fn of_user(&self) -> &User {
        self.user.as_ref().expect("only who uses them is asked")
    }

    fn of_user_mut(&mut self) -> &mut User {
        self.user.as_mut().expect("only who uses them is asked")
    }

    pub fn used_id(&self, primitive: Primitive) -> u64 {
        self.of_user().ids[primitive as usize]
    }

    pub fn created(&mut self, primitive: Primitive, id: u64) {
        self.of_user_mut().ids[primitive as usize] = id;
    }

    pub fn watched(&self) -> Option<Primitive> {
        self.user.as_ref().and_then(|user| user.watched)
    }

    /// The query that watches, as a call with this number.
    pub fn watch_request(&self, call: u64, sequence_num: u64) -> Input {
        let primitive = self.watched().expect("it asks for what it has chosen");
        let (operation, input) = primitive.watch();
        let Input::Query { query, group, max_received_index, .. } =
            self.query(call, self.used_id(primitive), operation, input.into())
        else {
            unreachable!("a query is made of it")
        };
        let query = Query { sequence_num, ..query };
        let consistency = Consistency::Linearizable;
        Input::Query { call, group, query, max_received_index, consistency, streams: true }
    }

    /// A call was answered.
    pub fn used(&mut self, one: Use, status: Status, body: Body, index: u64) -> Done {
        let user = self.of_user_mut();
        if status == Status::Ok && !one.is_query() {
            user.versions[one.primitive as usize] = index;
        }
        if user.mark == Some(0) {
            user.mark = Some(index);
        }
        Done::Used(match (status, body) {
            (Status::Ok, Body::Payload(bytes)) => Ok(bytes),
            (Status::Ok, Body::None) => Ok(Bytes::new()),
            (Status::Ok, body) => panic!("[answer] {one:?} was answered {body:?}"),
            (status, _) => Err(status),
        })
    }

    pub fn next_use(&mut self, ends: bool) -> Step {
        match self.step {
            Step::OpenSession => return Step::CreateUsed(Primitive::ALL[0]),
            Step::CreateUsed(last) => {
                if let Some(next) = Primitive::ALL.get(last as usize + 1) {
                    return Step::CreateUsed(*next);
                }
            }
            _ => {}
        }
        let is_new = self.standing(Kind::Watch).sequence == 0;
        if is_new || !ends && self.rng.u32(..WATCHED_CALLS) == 0 {
            self.watch_another();
        }
        if ends { self.last_uses() } else { self.any_use() }
    }

    /// A keep-alive ends the watch before.
    fn watch_another(&mut self) {
        let primitive = Primitive::ALL[self.rng.usize(..Primitive::ALL.len())];
        self.of_user_mut().watched = Some(primitive);
        self.stand(Kind::Watch);
    }

    fn any_use(&mut self) -> Step {
        if self.rng.u32(..20) == 0 {
            return Step::KeepAlive;
        }
        let value = self.fresh();
        let versions = self.of_user().versions;
        Step::Use(Use::draw(&mut self.rng, value, |primitive| versions[primitive as usize]))
    }

    /// A value that nobody else writes.
    fn fresh(&mut self) -> u64 {
        self.written += 1;
        self.number << 32 | self.written
    }

    /// What it watches must reach it; then it reads everything once more.
    fn last_uses(&mut self) -> Step {
        let told = self.standing(Kind::Watch).index;
        let User { watched, mark, left, .. } = *self.of_user();
        match (watched, mark) {
            (Some(primitive), None) => {
                self.of_user_mut().mark = Some(0);
                return Step::Use(Use::mark(primitive, self.fresh()));
            }
            // Who begins to watch what somebody emptied meanwhile is told nothing at first.
            (Some(_), Some(mark)) if told < mark && self.rng.u32(..8) == 0 => {
                self.of_user_mut().mark = None;
                return Step::KeepAlive;
            }
            (_, Some(mark)) if told < mark => return Step::KeepAlive,
            _ => {}
        }
        let left = left.unwrap_or(Primitive::ALL.len());
        self.done = left == 0;
        self.of_user_mut().left = Some(left.saturating_sub(1));
        Step::Use(Use::query(Primitive::ALL[left.saturating_sub(1)]))
    }
}

//! How the calls of clients are made and answered in the world.

use multiraft_machine::{Answer, Output};
use multiraft_shard::{CallError, Consistency, Input};

use crate::client::{Heard, Step};
use crate::planted::Defect;
use crate::standing::{CallKey, Hold, Kind, Said, Standing};
use crate::subscriptions::Held;
use crate::world::{Event, World};

/// A client that is refused an answer asks again after this long.
const RETRY_MICROS: u64 = 50_000;

/// A call under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub client: usize,
    pub operation: u64,
    /// (session, number) of a command that executes once.
    pub command: Option<(u64, u64)>,
    /// It is a standing command.
    pub kind: Option<Kind>,
    /// To a node without a member of the group: another one answers.
    pub is_passed_on: bool,
}

impl World {
    // ------------------------------------------------------------------- one after the other

    pub(crate) fn send(&mut self, client: usize, operation: u64, attempt: u64) {
        let one = &mut self.clients[client];
        if one.done || one.operation != operation || one.attempt != attempt {
            return;
        }
        one.attempt += 1;
        let attempt = one.attempt;
        let (place, patience) = (one.place(self.nodes.len()), one.patience());
        let abandons = one.abandons();
        self.call += 1;
        if self.options.planted == Some(Defect::RenumbersRepeated) {
            one.renumber();
        }
        let mut input = one.request(self.call);
        if let Input::Query { consistency, .. } = &mut input
            && self.options.planted == Some(Defect::SkipsReadIndex)
        {
            *consistency = Consistency::Local;
        }
        let command = one.is_numbered().then_some((one.session_id, one.sequence));
        let group = one.group;
        let key = (place, self.nodes[place].boot, self.call);
        if one.step == Step::Release {
            self.oracle.locks(group).released(one.session_id);
        }
        let (kind, is_passed_on) = (None, self.is_passed_on(place, group));
        self.calls.insert(key, Attempt { client, operation, command, kind, is_passed_on });
        self.input(place, input);
        if abandons {
            self.give_up(client, place, group, key.2);
        }
        self.at(patience, Event::Send { client, operation, attempt });
    }

    /// Tells the node that one of the client's earlier attempts is of no interest any more.
    fn give_up(&mut self, client: usize, place: usize, group: u32, newest: u64) {
        let of_place = self.calls.range((place, 0, 0)..(place + 1, 0, 0));
        let boot = self.nodes[place].boot;
        let stale = |((_, b, call), attempt): &(&(usize, u64, u64), &Attempt)| {
            let is_plain = attempt.client == client && attempt.kind.is_none();
            *b == boot && *call != newest && is_plain
        };
        let Some((_, _, call)) = of_place.filter(stale).map(|(key, _)| *key).next() else { return };
        self.input(place, Input::Abandon { call, group, keeps: false });
    }

    /// What follows for a call that watches is the state at this index, then its changes.
    pub fn listed(&mut self, key: CallKey, index: u64) {
        if let Some(attempt) = self.calls.get(&key) {
            let group = self.clients[attempt.client].group;
            self.oracle.used(group).listed(key.2, index);
        }
    }

    pub fn answered(&mut self, key: (usize, u64, u64), result: Result<Answer, CallError>) {
        let Some(attempt) = self.calls.get(&key).copied() else {
            self.answers.entry(key.2).or_default().push(result);
            return;
        };
        if is_last(&result) {
            self.calls.remove(&key);
        }
        let Attempt { client, operation, command, kind, is_passed_on } = attempt;
        let one = &mut self.clients[client];
        if let (Ok(answer), Some(command)) = (&result, command) {
            self.oracle.output(one.group, command, answer);
        }
        if let Some(kind) = kind {
            return self.said(key, is_passed_on, client, kind, &result);
        }
        if operation != one.operation || one.done {
            return;
        }
        match one.answered(&result) {
            // A node that cannot answer says so at once: another one is tried.
            Heard::Nothing => {
                let (operation, attempt) = (one.operation, one.attempt);
                self.at(RETRY_MICROS, Event::Send { client, operation, attempt });
            }
            Heard::SessionLost => self.session_lost(client),
            Heard::Done(done) => {
                let index = result.map_or(0, |answer| answer.index);
                self.oracle.done(one, &done, index, self.now);
                // It is begun when it is sent, after the pause.
                let pause = one.pause(self.options.shape.pause_micros, self.healed);
                let newest = self.oracle.streams(one.group).newest();
                one.next(self.now + pause, self.healed, newest);
                self.oracle.begun(one);
                let (operation, attempt) = (one.operation, one.attempt);
                self.at(pause, Event::Send { client, operation, attempt });
                self.stand_up(client);
            }
        }
    }

    /// The client's session ended; it begins another.
    fn session_lost(&mut self, client: usize) {
        let one = &mut self.clients[client];
        self.oracle.unknown(one);
        self.report.lost_sessions += 1;
        one.begin_again(self.now);
        let (operation, attempt) = (one.operation, one.attempt);
        self.at(0, Event::Send { client, operation, attempt });
    }

    // --------------------------------------------------------------------------- standing

    /// Asks for what a client has begun and not asked for yet, soon.
    fn stand_up(&mut self, client: usize) {
        let one = &mut self.clients[client];
        if one.wants_lock(self.healed) {
            one.hold = Hold::Waiting { floor: self.oracle.locks(one.group).token };
            one.stand(Kind::Lock);
        }
        for kind in Kind::ALL {
            let Standing { sequence, attempt, at, .. } = *self.clients[client].standing(kind);
            if sequence != 0 && at.is_none() {
                self.at(0, Event::Stand { client, kind, attempt });
            }
        }
    }

    /// Asks for a standing command at some node.
    pub(crate) fn stand(&mut self, client: usize, kind: Kind, attempt: u64) {
        let nodes = self.nodes.len();
        let one = &mut self.clients[client];
        let standing = *one.standing(kind);
        if one.done || standing.sequence == 0 || standing.attempt != attempt {
            return;
        }
        let place = one.place(nodes);
        let attempt = attempt + 1;
        if self.nodes[place].life.is_none() {
            one.standing_mut(kind).attempt = attempt;
            return self.at(RETRY_MICROS, Event::Stand { client, kind, attempt });
        }
        self.call += 1;
        let key = (place, self.nodes[place].boot, self.call);
        let now = Standing { attempt, at: Some(key), ..standing };
        *one.standing_mut(kind) = now;
        let input = one.standing_request(kind, self.call);
        let is_command = kind != Kind::Watch;
        let command = is_command.then_some((one.session_id, standing.sequence));
        // A node whose client is cut off from it learns late that it went elsewhere.
        let tells = one.rng.u32(..4) > 0;
        // Who drops a stream comes back for it, who drops a wait may not.
        let keeps = kind == Kind::Stream || one.rng.bool();
        let leaves = match kind {
            Kind::Stream | Kind::Watch => one.rng.u64(1_000_000..40_000_000),
            Kind::Lock => one.rng.u64(10_000..3_000_000),
        };
        let (operation, group) = (one.operation, one.group);
        if let Some(primitive) = one.watched().filter(|_| kind == Kind::Watch) {
            self.oracle.used(group).watches(key.2, primitive);
        }
        let is_passed_on = self.is_passed_on(place, group);
        let began = Attempt { client, operation, command, kind: Some(kind), is_passed_on };
        self.calls.insert(key, began);
        self.input(place, input);
        if let Some(earlier) = standing.at.filter(|_| tells) {
            self.abandon(earlier, keeps);
        }
        self.at(leaves, Event::Leave { client, kind, attempt });
    }

    fn is_passed_on(&self, place: usize, group: u32) -> bool {
        let life = self.nodes[place].life.as_ref();
        life.is_none_or(|life| life.shard.group_state(group).is_none())
    }

    fn abandon(&mut self, (place, boot, call): CallKey, keeps: bool) {
        let Some(attempt) = self.calls.get(&(place, boot, call)) else { return };
        let group = self.clients[attempt.client].group;
        if self.lives(place, boot) {
            self.input(place, Input::Abandon { call, group, keeps });
        }
    }

    /// At random, a client goes to another node, or waits for the lock no more.
    pub(crate) fn leave(&mut self, client: usize, kind: Kind, attempt: u64) {
        let one = &mut self.clients[client];
        let Standing { sequence, attempt: present, at, .. } = *one.standing(kind);
        if one.done || sequence == 0 || present != attempt {
            return;
        }
        if kind != Kind::Lock || one.rng.bool() {
            return self.stand(client, kind, attempt);
        }
        one.give_up();
        self.report.waits_abandoned += 1;
        if let Some(at) = at {
            self.abandon(at, false);
        }
    }

    /// A process died: its clients notice.
    pub(crate) fn serves_no_more(&mut self, place: usize) {
        let boot = self.nodes[place].boot;
        for client in 0..self.clients.len() {
            for kind in Kind::ALL {
                let Standing { attempt, at, .. } = *self.clients[client].standing(kind);
                if at.is_some_and(|(p, b, _)| (p, b) == (place, boot)) {
                    self.at(RETRY_MICROS, Event::Stand { client, kind, attempt });
                }
            }
        }
    }

    /// An answer to a standing command came.
    fn said(
        &mut self,
        key: CallKey,
        is_passed_on: bool,
        client: usize,
        kind: Kind,
        result: &Result<Answer, CallError>,
    ) {
        let one = &mut self.clients[client];
        let Standing { sequence, attempt, at, received, place, .. } = *one.standing(kind);
        if one.done || at != Some(key) {
            return;
        }
        let index = result.as_ref().map_or(0, |answer| answer.index);
        let (group, session_id) = (one.group, one.session_id);
        match one.said(kind, result) {
            Said::Ended => {
                self.report.watches_ended += u64::from(kind == Kind::Watch);
                self.at(RETRY_MICROS, Event::Stand { client, kind, attempt });
            }
            Said::SessionLost => self.session_lost(client),
            Said::Canceled => {
                one.drop_standing(kind);
                one.hold = Hold::Free;
            }
            Said::Event { number, .. } if number <= received => self.report.outputs_repeated += 1,
            Said::Event { number, event } => {
                let streams = self.oracle.streams(group);
                streams.told((session_id, sequence), number, index, event);
                self.report.stream_outputs += 1;
                self.report.streams_resumed += u64::from(received > 0 && place != key.0);
                let now = one.standing_mut(kind);
                (now.received, now.index, now.place) = (number, index, key.0);
            }
            Said::Told(output) => {
                self.oracle.used(group).told(key.2, index, output);
                self.report.watches_resumed += u64::from(received > 0 && place != key.0);
                let now = one.standing_mut(kind);
                // Which node told something, and of what: its outputs have no numbers.
                (now.received, now.index, now.place) = (1, index, key.0);
            }
            Said::Granted(token) => {
                let Hold::Waiting { floor } = one.hold else { return };
                one.granted(self.now, self.healed);
                self.report.locks_granted += 1;
                let held = Held { session_id, index, token };
                let (over, newest) = self.oracle.locks(group).granted(held, floor);
                let place = (newest == held && !is_passed_on).then_some(key.0);
                for held in over {
                    self.assert_ended(group, held, newest.index, place);
                }
            }
        }
    }

    /// The lock of this session was granted to another one at an index, as the node at `place` has
    /// just applied (`None`: nobody knows which): it has ended by then. What time brings about raises no index, so a machine of
    /// another node at the same index proves nothing.
    fn assert_ended(&self, group: u32, held: Held, index: u64, place: Option<usize>) {
        for node in &self.nodes {
            let Some(life) = &node.life else { continue };
            let Some((_, machine)) = life.shard.machine(group) else { continue };
            let is_behind = machine.index() < index + u64::from(place != Some(node.place));
            let is_open = || machine.sessions().any(|s| s.session_id == held.session_id);
            assert!(
                is_behind || !is_open(),
                "[lock] group {group}: {held:?} lives, and another one was granted at {index}"
            );
        }
    }
}

/// No further answer to the call follows.
fn is_last(result: &Result<Answer, CallError>) -> bool {
    let goes_on =
        |answer: &Answer| matches!(answer.result, Ok(Output::Operation { last: false, .. }));
    !result.as_ref().is_ok_and(goes_on)
}

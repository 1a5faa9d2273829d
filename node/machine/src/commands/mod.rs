//! The commands of one session: which were executed, their outputs until the client has them, and
//! which numbers may still come.
//!
//! A number executes at most once. Executed numbers stay cached until a keep-alive releases them;
//! below the released line only those numbers may still execute that were never executed and that
//! the client said to have open (a keep-alive may overtake a command on its way).

mod snapshot;

use imbl::{OrdMap, OrdSet};

use crate::answer::{Answer, Body, Effect, Output, Rejection, Status};
use crate::digest::Digest;
use crate::keep_alive::KeepAlive;
use crate::limits::{
    AWAITED_MAX, COMMAND_BYTES_MAX, COMMAND_OVERHEAD_BYTES, COMMANDS_MAX, STREAM_OUTPUTS_MAX,
};

/// Who waits for the outputs of a call: the node that the client talked to and its number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter {
    pub origin: u64,
    pub number: u64,
}

impl Waiter {
    pub(crate) const FIRST: Self = Self { origin: 0, number: 0 };
    pub(crate) const LAST: Self = Self { origin: u64::MAX, number: u64::MAX };

    pub fn answer(self, answer: Answer) -> Effect {
        Effect::Answer { origin: self.origin, number: self.number, answer }
    }

    pub fn begins(self) -> Effect {
        Effect::Begins { origin: self.origin, number: self.number }
    }

    fn replaced(self) -> Effect {
        Effect::Replaced { origin: self.origin, number: self.number }
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { origin, number } = self;
        digest.word(*origin);
        digest.word(*number);
    }
}

/// What the arrival of a command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Fresh,
    /// Executed before and still cached.
    Repeated,
    /// Never to be executed (again).
    Released,
    /// There is no room to remember another command.
    Full,
}

#[derive(Clone, Debug, Default)]
pub struct Commands {
    cached: OrdMap<u64, Command>,
    /// The incomplete ones among the cached.
    open: OrdMap<u64, Open>,
    /// Approximate memory of `cached`.
    bytes: u64,
    /// Highest number that was ever cached: a shortcut past the lookup for the usual arrival.
    highest: u64,
    /// Highest `through` of any keep-alive.
    released_through: u64,
    /// Numbers up to `released_through` that were never executed and may still come.
    awaited: OrdSet<u64>,
}

#[derive(Clone, Debug)]
struct Command {
    /// Outputs that the client has not acknowledged. The last output of a complete command stays
    /// until release, so that a repeated call learns of the end.
    outputs: Vec<Answer>,
    /// Number of the last output, acknowledged or not.
    emitted: u64,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    Complete,
    /// Closed before its last output.
    Canceled,
}

/// An incomplete command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    pub waiter: Waiter,
    pub primitive_id: u64,
}

impl Commands {
    pub fn len(&self) -> usize {
        self.cached.len()
    }

    /// Commands to which further outputs may come.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Approximate memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the command waits for outputs of this primitive.
    pub fn is_open(&self, sequence_num: u64, primitive_id: u64) -> bool {
        self.open.get(&sequence_num).is_some_and(|open| open.primitive_id == primitive_id)
    }

    pub fn arrival(&self, sequence_num: u64) -> Arrival {
        if sequence_num <= self.highest && self.cached.contains_key(&sequence_num) {
            return Arrival::Repeated;
        }
        if sequence_num <= self.released_through && !self.awaited.contains(&sequence_num) {
            return Arrival::Released;
        }
        if self.cached.len() >= COMMANDS_MAX || self.bytes >= COMMAND_BYTES_MAX {
            return Arrival::Full;
        }
        Arrival::Fresh
    }

    /// Remembers a complete command and answers it.
    pub fn complete(
        &mut self,
        sequence_num: u64,
        answer: Answer,
        waiter: Waiter,
        effects: &mut Vec<Effect>,
    ) {
        effects.push(waiter.answer(answer.clone()));
        self.insert(
            sequence_num,
            Command { outputs: vec![answer], emitted: 1, phase: Phase::Complete },
        );
    }

    /// Remembers a command whose outputs come later.
    pub fn open(&mut self, sequence_num: u64, open: Open) {
        self.open.insert(sequence_num, open);
        self.insert(sequence_num, Command { outputs: Vec::new(), emitted: 0, phase: Phase::Open });
    }

    fn insert(&mut self, sequence_num: u64, command: Command) {
        self.highest = self.highest.max(sequence_num);
        if sequence_num <= self.released_through {
            self.awaited.remove(&sequence_num);
        }
        self.bytes += command.bytes();
        let previous = self.cached.insert(sequence_num, command);
        assert!(previous.is_none(), "command {sequence_num} executed twice");
    }

    /// Adds an output to an open command. A command that was closed meanwhile takes none. One that
    /// has no room for another output ends with an error instead, and is returned: its primitive
    /// has to forget it.
    #[must_use]
    pub fn push(
        &mut self,
        sequence_num: u64,
        mut answer: Answer,
        effects: &mut Vec<Effect>,
    ) -> Option<Open> {
        let open = self.open.get(&sequence_num).copied()?;
        let command = self.cached.get_mut(&sequence_num)?;
        let Ok(Output::Operation { sequence, last, .. }) = &mut answer.result else { return None };
        command.emitted += 1;
        *sequence = command.emitted;
        let full = command.outputs.len() >= STREAM_OUTPUTS_MAX || self.bytes >= COMMAND_BYTES_MAX;
        // A last output is not the one too many.
        let overrun = full && !*last;
        let last = overrun || *last;
        if overrun {
            answer = fallen_behind(answer.index, command.emitted);
        }
        self.bytes += output_bytes(&answer);
        command.outputs.push(answer.clone());
        if last {
            command.phase = Phase::Complete;
            self.open.remove(&sequence_num);
        }
        effects.push(open.waiter.answer(answer));
        overrun.then_some(open)
    }

    /// Answers a repeated command from the cache; later outputs go to the new waiter only.
    pub fn repeat(
        &mut self,
        sequence_num: u64,
        waiter: Waiter,
        index: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(command) = self.cached.get(&sequence_num) else { return };
        effects.push(waiter.begins());
        effects.extend(command.outputs.iter().map(|output| waiter.answer(output.clone())));
        match command.phase {
            Phase::Complete => {}
            Phase::Open => {
                if let Some(open) = self.open.get_mut(&sequence_num) {
                    let before = std::mem::replace(&mut open.waiter, waiter);
                    // It may be the one that somebody waits at: a copy of an earlier call came late.
                    effects.extend((before != waiter).then(|| before.replaced()));
                }
            }
            Phase::Canceled => {
                effects.push(waiter.answer(Answer { index, result: Err(Rejection::Canceled) }));
            }
        }
    }

    /// Ends an open command at the wish of its waiter. A waiter that was replaced since by a
    /// repeated call has nothing to give up.
    pub fn cancel(&mut self, sequence_num: u64, waiter: Waiter) -> Option<Open> {
        let open = self.open.get(&sequence_num).copied().filter(|open| open.waiter == waiter)?;
        self.close(sequence_num);
        Some(open)
    }

    /// Ends all open commands, or those on one primitive.
    pub fn cancel_all(&mut self, primitive_id: Option<u64>) -> Vec<(u64, Open)> {
        let meant = |open: &Open| primitive_id.is_none_or(|id| open.primitive_id == id);
        let canceled: Vec<_> =
            self.open.iter().filter(|(_, open)| meant(open)).map(|(n, open)| (*n, *open)).collect();
        for (sequence_num, _) in &canceled {
            self.close(*sequence_num);
        }
        canceled
    }

    fn close(&mut self, sequence_num: u64) {
        self.open.remove(&sequence_num);
        if let Some(command) = self.cached.get_mut(&sequence_num) {
            command.phase = Phase::Canceled;
        }
    }

    /// Carries out a keep-alive. Returns the commands that were open here and are not at the
    /// client.
    pub fn release(&mut self, keep_alive: &KeepAlive) -> Vec<(u64, Open)> {
        let KeepAlive { through, open, acknowledged } = keep_alive;
        let released: Vec<u64> = self
            .cached
            .range(..=*through)
            .map(|(number, _)| *number)
            .filter(|number| !open.contains(*number))
            .collect();
        self.forget(&released);
        for (number, output) in acknowledged.range(..=*through) {
            self.acknowledge(*number, *output);
        }
        self.await_open(keep_alive);
        let gone = |number: &u64| !self.cached.contains_key(number);
        let canceled: Vec<_> =
            self.open.iter().filter(|(n, _)| gone(n)).map(|(n, open)| (*n, *open)).collect();
        for (number, _) in &canceled {
            self.open.remove(number);
        }
        canceled
    }

    fn forget(&mut self, released: &[u64]) {
        let kept = self.cached.len() - released.len();
        if kept < released.len() {
            // The usual keep-alive: what came since it was sent is kept. Far cheaper than removing
            // one by one, which was 4 % of a loaded node's CPU.
            let mut released = released.iter().peekable();
            let rest = self.cached.iter().filter(|(n, _)| released.next_if_eq(n).is_none());
            self.cached = rest.map(|(number, command)| (*number, command.clone())).collect();
            self.bytes = self.cached.values().map(Command::bytes).sum();
            return;
        }
        for number in released {
            if let Some(command) = self.cached.remove(number) {
                self.bytes -= command.bytes();
            }
        }
    }

    fn acknowledge(&mut self, sequence_num: u64, through: u64) {
        let Some(command) = self.cached.get_mut(&sequence_num) else { return };
        let before = command.bytes();
        command.outputs.retain(|answer| match answer.result {
            Ok(Output::Operation { sequence, last, .. }) => sequence > through || last,
            Ok(Output::SessionOpened { .. } | Output::SessionKept | Output::SessionClosed) => true,
            Err(_) => true,
        });
        self.bytes = self.bytes - before + command.bytes();
    }

    /// Moves the released line. Numbers between the old and the new line were never released, so
    /// an uncached one was never executed; if the client has it open, it may still come. An older
    /// keep-alive that arrives late names no number that a newer one has closed, because it only
    /// narrows what was awaited.
    fn await_open(&mut self, keep_alive: &KeepAlive) {
        let KeepAlive { through, open, .. } = keep_alive;
        let over: Vec<u64> =
            self.awaited.range(..=*through).filter(|n| !open.contains(**n)).copied().collect();
        for number in over {
            self.awaited.remove(&number);
        }
        for number in open.between(self.released_through, *through, AWAITED_MAX) {
            if !self.cached.contains_key(&number) {
                self.awaited.insert(number);
            }
        }
        while self.awaited.len() > AWAITED_MAX {
            let Some(lowest) = self.awaited.get_min().copied() else { break };
            self.awaited.remove(&lowest);
        }
        self.released_through = self.released_through.max(*through);
    }

    pub fn digest(&self, digest: &mut Digest) {
        let Self { cached, open, bytes, highest, released_through, awaited } = self;
        digest.word(*highest);
        digest.word(*released_through);
        digest.word(*bytes);
        digest.number(awaited.len());
        awaited.iter().for_each(|number| digest.word(*number));
        digest.number(open.len());
        for (number, open) in open.iter() {
            digest.word(*number);
            open.digest(digest);
        }
        digest.number(cached.len());
        for (number, command) in cached.iter() {
            digest.word(*number);
            command.digest(digest);
        }
    }
}

impl Open {
    fn digest(&self, digest: &mut Digest) {
        let Self { waiter, primitive_id } = self;
        waiter.digest(digest);
        digest.word(*primitive_id);
    }
}

impl Command {
    fn digest(&self, digest: &mut Digest) {
        let Self { outputs, emitted, phase } = self;
        digest.word(*phase as u64);
        digest.word(*emitted);
        digest.number(outputs.len());
        outputs.iter().for_each(|answer| answer.digest(digest));
    }

    fn bytes(&self) -> u64 {
        COMMAND_OVERHEAD_BYTES + self.outputs.iter().map(output_bytes).sum::<u64>()
    }
}

fn fallen_behind(index: u64, sequence: u64) -> Answer {
    let (status, body, last) = (Status::Conflict, Body::None, true);
    let message = "too many unacknowledged outputs: the stream ends here".to_owned();
    Answer { index, result: Ok(Output::Operation { sequence, status, message, body, last }) }
}

fn output_bytes(answer: &Answer) -> u64 {
    match &answer.result {
        Ok(Output::Operation { message, body: Body::Payload(payload), .. }) => {
            (message.len() + payload.len()) as u64
        }
        Ok(Output::Operation { message, .. }) => message.len() as u64,
        Ok(_) | Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::each_field_changes_the_digest;

    fn waiter() -> Waiter {
        Waiter { origin: 1, number: 2 }
    }

    fn output(sequence: u64) -> Answer {
        let (status, message, body) = (Status::Ok, String::new(), Body::None);
        let result = Ok(Output::Operation { sequence, status, message, body, last: true });
        Answer { index: 1, result }
    }

    #[test]
    fn each_field_of_the_commands_is_in_the_digest() {
        let mut commands = Commands::default();
        commands.complete(1, output(1), waiter(), &mut Vec::new());
        commands.open(2, Open { waiter: waiter(), primitive_id: 3 });
        each_field_changes_the_digest!(commands, Commands::digest, Commands {
            cached => cached[&1].emitted = 2,
            open => open[&2].primitive_id = 4,
            bytes => *bytes += 1,
            highest => *highest += 1,
            released_through => *released_through += 1,
            awaited => awaited.insert(1),
        });
    }

    #[test]
    fn a_command_that_another_call_repeats_begins_there_and_the_earlier_call_is_told() {
        let (mut commands, mut effects) = (Commands::default(), Vec::new());
        commands.open(1, Open { waiter: waiter(), primitive_id: 3 });
        let other = Waiter { origin: 3, number: 4 };
        for again in [other, other] {
            commands.repeat(1, again, 9, &mut effects);
        }
        assert_eq!(effects, [other.begins(), waiter().replaced(), other.begins()]);
    }

    #[test]
    fn a_stream_that_is_not_acknowledged_ends_when_it_is_full() {
        let mut commands = Commands::default();
        let open = Open { waiter: waiter(), primitive_id: 3 };
        commands.open(1, open);
        let event = || {
            let (status, message, body) = (Status::Ok, String::new(), Body::None);
            let result = Ok(Output::Operation { sequence: 0, status, message, body, last: false });
            Answer { index: 1, result }
        };
        for _ in 0..STREAM_OUTPUTS_MAX {
            assert_eq!(commands.push(1, event(), &mut Vec::new()), None);
        }
        let mut effects = Vec::new();
        assert_eq!(commands.push(1, event(), &mut effects), Some(open));
        let number = STREAM_OUTPUTS_MAX as u64 + 1;
        assert_eq!(effects, [waiter().answer(fallen_behind(1, number))]);
        assert!(!commands.is_open(1, 3));
    }

    #[test]
    fn a_full_stream_takes_its_last_output() {
        let mut commands = Commands { bytes: COMMAND_BYTES_MAX, ..Commands::default() };
        commands.open(1, Open { waiter: waiter(), primitive_id: 3 });
        let mut effects = Vec::new();
        assert_eq!(commands.push(1, output(0), &mut effects), None);
        assert_eq!(effects, [waiter().answer(output(1))]);
    }

    #[test]
    fn each_field_of_a_command_is_in_the_digest() {
        let command = Command { outputs: vec![output(1)], emitted: 1, phase: Phase::Open };
        for other in [Phase::Complete, Phase::Canceled] {
            each_field_changes_the_digest!(command.clone(), Command::digest, Command {
                outputs => outputs.push(output(2)),
                emitted => *emitted = 2,
                phase => *phase = other,
            });
        }
        each_field_changes_the_digest!(Open { waiter: waiter(), primitive_id: 3 }, Open::digest, Open {
            waiter => waiter.origin = 3,
            primitive_id => *primitive_id = 4,
        });
        each_field_changes_the_digest!(waiter(), Waiter::digest, Waiter {
            origin => *origin = 3,
            number => *number = 3,
        });
    }
}

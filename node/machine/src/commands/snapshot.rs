//! The commands of a session in a snapshot.

use std::iter;

use imbl::OrdSet;
use multiraft_proto::log::snapshot_command::Phase as WirePhase;
use multiraft_proto::log::snapshot_record::Record;
use multiraft_proto::log::{
    SnapshotAwaited, SnapshotCanceled, SnapshotCommand, SnapshotComplete, SnapshotOpen,
    SnapshotOutput,
};

use super::{Command, Commands, Open, Phase, Waiter, output_bytes};
use crate::answer::Answer;
use crate::snapshot::pieces;

impl Commands {
    pub fn highest(&self) -> u64 {
        self.highest
    }

    pub fn released_through(&self) -> u64 {
        self.released_through
    }

    pub fn records(&self, session_id: u64) -> impl Iterator<Item = Record> + Send + '_ {
        // Without `..`: a new field needs a decision. Two are in the session's own record, `bytes`
        // follows from the outputs.
        let Self { cached, open, bytes: _, highest: _, released_through: _, awaited } = self;
        let awaited = pieces(awaited.iter().copied()).map(move |sequence_nums| {
            Record::Awaited(SnapshotAwaited { session_id, sequence_nums })
        });
        let commands = cached.iter().flat_map(move |(sequence_num, command)| {
            command.records((session_id, *sequence_num), open.get(sequence_num))
        });
        awaited.chain(commands)
    }

    /// No commands yet, but their numbers are spoken for.
    pub fn restored(highest: u64, released_through: u64) -> Self {
        Self { highest, released_through, ..Self::default() }
    }

    pub fn restore_awaited(&mut self, sequence_nums: &[u64]) -> Result<(), String> {
        for number in sequence_nums {
            if self.awaited.insert(*number).is_some() {
                return Err(format!("command {number} is awaited twice"));
            }
        }
        Ok(())
    }

    pub fn restore_command(
        &mut self,
        command: SnapshotCommand,
        attached: &OrdSet<u64>,
    ) -> Result<(), String> {
        let SnapshotCommand { session_id: _, sequence_num, emitted, phase } = command;
        if sequence_num == 0 || sequence_num > self.highest {
            return Err(format!("number {sequence_num} is not in 1 to {}", self.highest));
        }
        let phase = match phase.ok_or("phase: is absent, or of an unknown kind")? {
            WirePhase::Open(SnapshotOpen { origin, number, primitive_id }) => {
                if !attached.contains(&primitive_id) {
                    return Err(format!("open.primitive_id: {primitive_id} is not attached"));
                }
                let waiter = Waiter { origin, number };
                self.open.insert(sequence_num, Open { waiter, primitive_id });
                Phase::Open
            }
            WirePhase::Complete(SnapshotComplete {}) => Phase::Complete,
            WirePhase::Canceled(SnapshotCanceled {}) => Phase::Canceled,
        };
        let command = Command { outputs: Vec::new(), emitted, phase };
        self.bytes += command.bytes();
        match self.cached.insert(sequence_num, command) {
            None => Ok(()),
            Some(_) => Err(format!("command {sequence_num} comes twice")),
        }
    }

    pub fn restore_output(&mut self, sequence_num: u64, answer: Answer) -> Result<(), String> {
        let Some(command) = self.cached.get_mut(&sequence_num) else {
            return Err(format!("command {sequence_num} is not in the snapshot"));
        };
        self.bytes += output_bytes(&answer);
        command.outputs.push(answer);
        Ok(())
    }
}

impl Command {
    fn records(
        &self,
        (session_id, sequence_num): (u64, u64),
        open: Option<&Open>,
    ) -> impl Iterator<Item = Record> + Send + '_ {
        let Self { outputs, emitted, phase } = self;
        let phase = match phase {
            Phase::Open => open.map(|Open { waiter: Waiter { origin, number }, primitive_id }| {
                let (origin, number, primitive_id) = (*origin, *number, *primitive_id);
                WirePhase::Open(SnapshotOpen { origin, number, primitive_id })
            }),
            Phase::Complete => Some(WirePhase::Complete(SnapshotComplete {})),
            Phase::Canceled => Some(WirePhase::Canceled(SnapshotCanceled {})),
        };
        let itself = SnapshotCommand { session_id, sequence_num, emitted: *emitted, phase };
        let outputs = outputs.iter().map(move |answer| {
            let answer = Some(answer.into());
            Record::Output(SnapshotOutput { session_id, sequence_num, answer })
        });
        iter::once(Record::Command(itself)).chain(outputs)
    }
}

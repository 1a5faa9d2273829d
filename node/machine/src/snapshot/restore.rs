//! Chunks back to a machine. Nothing in them is trusted.

use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdSet;
use multiraft_proto::log::snapshot_record::Record;
use multiraft_proto::log::{
    SnapshotAttached, SnapshotAwaited, SnapshotChunk, SnapshotCommand, SnapshotEnd, SnapshotHeader,
    SnapshotOutput, SnapshotPrimitive, SnapshotQuota, SnapshotRecord, SnapshotRemembered,
    SnapshotSession, SnapshotState,
};
use multiraft_proto::v1;
use prost::Message;

use super::answer::read_answer;
use crate::calls::Name;
use crate::commands::{Commands, Waiter};
use crate::limits::{FEATURE_LEVEL, SNAPSHOT_FORMAT};
use crate::machine::Machine;
use crate::primitives::{RestoreContext, Service, Slot};
use crate::quotas::Limits;
use crate::session::Session;
use crate::timers::{Owner, RestoredTimers, Timer};

/// Builds a machine from the chunks of [`Machine::snapshot`], pushed in their order. What it holds
/// in memory is in proportion to the bytes that were pushed.
#[derive(Debug, Default)]
pub struct Restore {
    /// Number of the chunk that comes next.
    next: u64,
    header: Option<SnapshotHeader>,
    ended: bool,
    machine: Machine,
    timers: RestoredTimers,
}

/// These chunks are not a snapshot that this release can restore. Another copy of the snapshot may
/// be whole; a snapshot of a later release needs that release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("snapshot has format {format}, this release knows {known}")]
    Format { format: u32, known: u32 },
    #[error("snapshot needs feature level {level}, this release has {known}")]
    FeatureLevel { level: u32, known: u32 },
    #[error("chunk {found} of the snapshot came where chunk {expected} was to come")]
    OutOfOrder { expected: u64, found: u64 },
    #[error("chunk {chunk} of the snapshot does not decode")]
    Undecodable {
        chunk: u64,
        #[source]
        source: prost::DecodeError,
    },
    #[error("chunk {chunk} of the snapshot, {record}: {message}")]
    Invalid { chunk: u64, record: &'static str, message: String },
    #[error("the snapshot is cut off: its end is not in its {chunks} chunks")]
    Incomplete { chunks: u64 },
    #[error("the snapshot has lost {what}: {found} of {expected} are left")]
    Lost { what: &'static str, expected: u64, found: u64 },
    #[error(
        "the snapshot has lost or changed a part of the machine: digest {found:016x}, \
         but {expected:016x} when it was taken"
    )]
    Digest { expected: u64, found: u64 },
}

impl Restore {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk. After an error, the restore is good for nothing.
    pub fn push(&mut self, mut chunk: Bytes) -> Result<(), RestoreError> {
        let number = self.next;
        self.begin(&mut chunk)?;
        while !chunk.is_empty() {
            let record = decode(number, &mut chunk)?;
            let kind = kind(&record);
            if let Record::Header(header) = &record {
                check_versions(header)?;
            }
            self.take(record).map_err(|message| {
                let record = kind;
                RestoreError::Invalid { chunk: number, record, message }
            })?;
        }
        self.next += 1;
        Ok(())
    }

    /// The first record says which chunk this is.
    fn begin(&self, chunk: &mut Bytes) -> Result<(), RestoreError> {
        let expected = self.next;
        match decode(expected, chunk)? {
            Record::Chunk(SnapshotChunk { number }) if number == expected => Ok(()),
            Record::Chunk(SnapshotChunk { number: found }) => {
                Err(RestoreError::OutOfOrder { expected, found })
            }
            other => Err(RestoreError::Invalid {
                chunk: expected,
                record: kind(&other),
                message: "stands where the chunk's number was to stand".into(),
            }),
        }
    }

    fn take(&mut self, record: Record) -> Result<(), String> {
        if self.ended {
            return Err("follows the end of the snapshot".into());
        }
        match (self.header.is_some(), &record) {
            (false, Record::Header(_)) => {}
            (false, _) => return Err("comes before the header".into()),
            (true, Record::Header(_)) => return Err("comes twice".into()),
            (true, _) => {}
        }
        match record {
            Record::Chunk(_) => Err("stands inside a chunk".into()),
            Record::Header(header) => {
                self.header(header);
                Ok(())
            }
            Record::Primitive(primitive) => self.primitive(primitive),
            Record::Session(session) => self.session(session),
            Record::Attached(attached) => self.attached(attached),
            Record::Awaited(SnapshotAwaited { session_id, sequence_nums }) => {
                self.machine.restored_session(session_id)?.commands.restore_awaited(&sequence_nums)
            }
            Record::Command(command) => self.command(command),
            Record::Output(SnapshotOutput { session_id, sequence_num, answer }) => {
                let commands = &mut self.machine.restored_session(session_id)?.commands;
                commands.restore_output(sequence_num, read_answer(answer)?)
            }
            Record::State(state) => self.state(state),
            Record::Remembered(remembered) => self.remembered(remembered),
            Record::Quota(quota) => self.quota(quota),
            Record::End(SnapshotEnd {}) => {
                self.ended = true;
                Ok(())
            }
        }
    }

    fn header(&mut self, header: SnapshotHeader) {
        self.machine.index = header.index;
        self.machine.log_time = header.log_time;
        self.machine.feature_level = header.feature_level;
        self.timers = RestoredTimers::new(header.timer_id_max, header.log_time);
        self.header = Some(header);
    }

    /// Ids are indexes: one that is above the machine's would be given out again.
    fn check_id(&self, id: u64) -> Result<(), String> {
        if id == 0 || id > self.machine.index {
            return Err(format!("id {id} is not in 1 to {}", self.machine.index));
        }
        Ok(())
    }

    fn primitive(&mut self, primitive: SnapshotPrimitive) -> Result<(), String> {
        let SnapshotPrimitive { primitive_id, service, namespace, name } = primitive;
        self.check_id(primitive_id)?;
        let service = Service::find(&service).map_err(|_| {
            format!("primitive {primitive_id} is a {service}, which this release does not serve")
        })?;
        let name: Name = (namespace.into(), name.into());
        let slot = Slot::new(service, Arc::clone(&name.0), Arc::clone(&name.1));
        if self.machine.primitives.insert(primitive_id, slot).is_some() {
            return Err(format!("primitive {primitive_id} comes twice"));
        }
        if let Some(other) = self.machine.names.insert(name, primitive_id) {
            return Err(format!("primitives {other} and {primitive_id} have the same name"));
        }
        Ok(())
    }

    fn session(&mut self, session: SnapshotSession) -> Result<(), String> {
        let SnapshotSession { session_id, timeout_millis, expiry, highest, released_through } =
            session;
        self.check_id(session_id)?;
        let expiry = Timer::from(expiry.ok_or("expiry: is absent")?);
        self.timers.arm(expiry, Owner::Session(session_id))?;
        let commands = Commands::restored(highest, released_through);
        let session = Session { timeout_millis, expiry, attached: OrdSet::new(), commands };
        if self.machine.sessions.insert(session_id, session).is_some() {
            return Err(format!("session {session_id} comes twice"));
        }
        Ok(())
    }

    fn attached(&mut self, attached: SnapshotAttached) -> Result<(), String> {
        let SnapshotAttached { session_id, primitive_ids } = attached;
        let primitives = &self.machine.primitives;
        if let Some(lost) = primitive_ids.iter().find(|id| !primitives.contains_key(*id)) {
            return Err(format!("primitive {lost} is not in the snapshot"));
        }
        let session = self.machine.restored_session(session_id)?;
        for primitive_id in primitive_ids {
            if session.attached.insert(primitive_id).is_some() {
                return Err(format!("session {session_id} has primitive {primitive_id} twice"));
            }
        }
        Ok(())
    }

    fn command(&mut self, command: SnapshotCommand) -> Result<(), String> {
        let session = self.machine.restored_session(command.session_id)?;
        session.commands.restore_command(command, &session.attached)
    }

    fn state(&mut self, state: SnapshotState) -> Result<(), String> {
        let SnapshotState { primitive_id, record } = state;
        let slot = self.machine.primitives.get_mut(&primitive_id);
        let slot =
            slot.ok_or_else(|| format!("primitive {primitive_id} is not in the snapshot"))?;
        let sessions = &self.machine.sessions;
        let mut context = RestoreContext::new(primitive_id, &mut self.timers, sessions);
        slot.primitive_mut()
            .restore(record, &mut context)
            .map_err(|message| format!("primitive {primitive_id}: {message}"))
    }

    fn remembered(&mut self, remembered: SnapshotRemembered) -> Result<(), String> {
        let SnapshotRemembered { origin, number, answer } = remembered;
        let answer = read_answer(answer)?;
        self.check_id(answer.index)?;
        self.machine.remembered.restore(Waiter { origin, number }, answer)
    }

    fn quota(&mut self, SnapshotQuota { quota }: SnapshotQuota) -> Result<(), String> {
        let quota = quota.ok_or("quota: is absent")?;
        let v1::Quota { namespace, primitives, bytes, sessions } = quota;
        let limits = Limits { primitives, bytes, sessions };
        if limits.is_empty() {
            return Err(format!("namespace {namespace:?} has no limit"));
        }
        if self.machine.quotas.contains(&namespace) {
            return Err(format!("namespace {namespace:?} comes twice"));
        }
        self.machine.quotas.insert(namespace.into(), limits);
        Ok(())
    }

    /// The machine, once it is sure that nothing of it was lost.
    pub fn finish(self) -> Result<Machine, RestoreError> {
        let Self { next, header, ended, mut machine, timers } = self;
        let (true, Some(header)) = (ended, header) else {
            return Err(RestoreError::Incomplete { chunks: next });
        };
        machine.timers = timers.finish();
        machine.restore_quotas();
        for (what, expected, found) in [
            ("primitives", header.primitives, machine.primitives.len() as u64),
            ("sessions", header.sessions, machine.sessions.len() as u64),
            ("commands", header.commands, machine.command_count()),
            ("timers", header.timers, machine.timers.armed_count() as u64),
            ("remembered answers", header.remembered, machine.remembered.len() as u64),
            ("quotas", header.quotas, machine.quotas.len() as u64),
        ] {
            if expected != found {
                return Err(RestoreError::Lost { what, expected, found });
            }
        }
        let (expected, found) = (header.digest, machine.digest());
        if expected != found {
            return Err(RestoreError::Digest { expected, found });
        }
        Ok(machine)
    }
}

impl Machine {
    fn restored_session(&mut self, session_id: u64) -> Result<&mut Session, String> {
        let session = self.sessions.get_mut(&session_id);
        session.ok_or_else(|| format!("session {session_id} is not in the snapshot"))
    }
}

/// Takes one record off the chunk.
fn decode(number: u64, chunk: &mut Bytes) -> Result<Record, RestoreError> {
    let record = SnapshotRecord::decode_length_delimited(chunk)
        .map_err(|source| RestoreError::Undecodable { chunk: number, source })?;
    record.record.ok_or(RestoreError::Invalid {
        chunk: number,
        record: "record",
        message: "is of a kind that this release does not know".into(),
    })
}

/// First of all: nothing else of another format may be understood.
fn check_versions(header: &SnapshotHeader) -> Result<(), RestoreError> {
    let SnapshotHeader { format, feature_level: level, .. } = *header;
    if format != SNAPSHOT_FORMAT {
        return Err(RestoreError::Format { format, known: SNAPSHOT_FORMAT });
    }
    if level > FEATURE_LEVEL {
        return Err(RestoreError::FeatureLevel { level, known: FEATURE_LEVEL });
    }
    Ok(())
}

fn kind(record: &Record) -> &'static str {
    match record {
        Record::Chunk(_) => "chunk",
        Record::Header(_) => "header",
        Record::Primitive(_) => "primitive",
        Record::Session(_) => "session",
        Record::Attached(_) => "attached",
        Record::Awaited(_) => "awaited",
        Record::Command(_) => "command",
        Record::Output(_) => "output",
        Record::State(_) => "state",
        Record::Remembered(_) => "remembered",
        Record::Quota(_) => "quota",
        Record::End(_) => "end",
    }
}

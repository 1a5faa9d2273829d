//! Several writes to a map that happen together or not at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use multiraft_proto::map as wire;
use multiraft_proto::rpc::map as operation;
use prost::Message;
use tracing::warn;
use wire::map_input::Input;
use wire::map_output::Output;

use crate::Error;
use crate::calls::Deadline;
use crate::limits::SETTLE_TIMEOUT;
use crate::map::{insert, put, remove, update};
use crate::numbers::Ticket;
use crate::primitive::Primitive;
use crate::session::{Session, decode};
use crate::version::{Version, Versioned, Write};

/// Writes to distinct keys of a map, at most 1,024 in one partition, that happen together or not at
/// all.
///
/// When all keys live in one partition it is a single command. Otherwise every partition prepares its
/// part first, which locks its keys against other writers, and all commit once all have prepared.
/// Readers may see one partition's part before another's. A client that dies between two of its
/// commits leaves the transaction half done: the rest is rolled back with its session.
#[must_use = "a transaction does nothing until it is committed"]
pub struct Transaction {
    primitive: Primitive,
    inputs: Vec<Input>,
}

/// What one write of a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Version of the entry now; `None` when it was removed.
    pub version: Option<Version>,
    /// What was there before.
    pub previous: Option<Versioned>,
}

/// What was answered, each with its place in the transaction.
type Outputs = Vec<(usize, wire::MapOutput)>;

/// The writes of one partition.
struct Part {
    session: Arc<Session>,
    primitive: Primitive,
    /// Of the primitive in this partition.
    id: u64,
    /// Of its Prepare, or of its only command.
    ticket: Ticket,
    /// In the transaction.
    places: Vec<usize>,
    inputs: Vec<wire::MapInput>,
}

impl Transaction {
    pub(crate) fn new(primitive: Primitive) -> Self {
        Self { primitive, inputs: Vec::new() }
    }

    /// As [`crate::Map::put_with`].
    pub fn put(mut self, key: &str, value: impl Into<Bytes>, write: Write) -> Self {
        self.inputs.push(Input::Put(put(key, value.into(), write)));
        self
    }

    /// As [`crate::Map::insert_with`].
    pub fn insert(mut self, key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) -> Self {
        self.inputs.push(Input::Insert(insert(key, value.into(), ttl)));
        self
    }

    /// As [`crate::Map::update_with`].
    pub fn update(mut self, key: &str, value: impl Into<Bytes>, write: Write) -> Self {
        self.inputs.push(Input::Update(update(key, value.into(), write)));
        self
    }

    /// As [`crate::Map::remove_if`].
    pub fn remove(mut self, key: &str, version: Option<Version>) -> Self {
        self.inputs.push(Input::Remove(remove(key, version)));
        self
    }

    /// Does all of it, and answers for each write in its order; or does nothing, and is rejected as
    /// the first write that cannot be done is, as a conflict also when a key is written twice or is
    /// part of another transaction. Once begun it goes on to its end in the background, also when the
    /// future is dropped.
    pub async fn commit(self) -> Result<Vec<Effect>, Error> {
        let count = self.inputs.len();
        let outputs = tokio::spawn(self.run()).await.unwrap_or(Err(Error::Closed))?;
        let mut effects = vec![None; count];
        for (place, output) in outputs {
            effects[place] = effect(output);
        }
        let all: Option<Vec<Effect>> = effects.into_iter().collect();
        all.ok_or_else(|| Error::Refused {
            node: "unknown".into(),
            code: tonic::Code::Internal,
            message: "it answered for fewer writes than there are".into(),
        })
    }

    async fn run(self) -> Result<Outputs, Error> {
        let primitive = &self.primitive;
        let inputs = self.inputs.into_iter().enumerate();
        let mut parts = Vec::new();
        for (position, inputs) in primitive.spread(inputs, |(_, input)| key(input)) {
            parts.push(Part::new(primitive, position, inputs).await?);
        }
        match &parts[..] {
            [] => Ok(Vec::new()),
            [part] => part.apply().await,
            _ => commit_all(parts, primitive.timeout).await,
        }
    }
}

/// Prepares everywhere, then commits everywhere, or nowhere.
async fn commit_all(parts: Vec<Part>, timeout: Duration) -> Result<Outputs, Error> {
    let prepared = join_all(parts.iter().map(|part| part.prepare(timeout))).await;
    let mut done = Vec::new();
    let mut first_error = None;
    for (part, result) in parts.into_iter().zip(prepared) {
        match result {
            Ok(()) => done.push((part, true)),
            Err(error) => {
                let is_unknown = error.is_outcome_unknown();
                if is_unknown && !matches!(error, Error::SessionExpired { .. }) {
                    done.push((part, false));
                }
                first_error.get_or_insert(error);
            }
        }
    }
    let Some(error) = first_error else {
        let committed = join_all(done.iter().map(|(part, _)| part.commit())).await;
        return Ok(committed.into_iter().collect::<Result<Vec<_>, _>>()?.concat());
    };
    // Goes on in the background when it takes longer.
    let undone = tokio::spawn(async move {
        join_all(done.iter().map(|(part, is_prepared)| part.undo(*is_prepared))).await;
    });
    let _ = tokio::time::timeout(timeout, undone).await;
    Err(error)
}

impl Part {
    async fn new(
        primitive: &Primitive,
        position: usize,
        inputs: Vec<(usize, Input)>,
    ) -> Result<Self, Error> {
        let session = primitive.cluster.session(position, primitive.timeout).await?;
        let deadline = Deadline::after(primitive.timeout);
        let id = session.primitive(&primitive.spec, deadline).await?;
        let (places, inputs) = inputs
            .into_iter()
            .map(|(place, input)| (place, wire::MapInput { input: Some(input) }))
            .unzip();
        let (primitive, ticket) = (primitive.clone(), session.ticket());
        Ok(Self { session, primitive, id, ticket, places, inputs })
    }

    async fn apply(&self) -> Result<Outputs, Error> {
        let input = wire::ApplyInput { inputs: self.inputs.clone() };
        let time = self.primitive.timeout;
        let output = self.send(&self.ticket, operation::APPLY, &input, time).await?;
        Ok(self.placed(decode::<wire::ApplyOutput>(&output)?.outputs))
    }

    async fn prepare(&self, timeout: Duration) -> Result<(), Error> {
        let (sequence_num, inputs) = (self.ticket.number, self.inputs.clone());
        let input = wire::PrepareInput { sequence_num, inputs };
        self.send(&self.ticket, operation::PREPARE, &input, timeout).await.map(drop)
    }

    async fn commit(&self) -> Result<Outputs, Error> {
        let input = wire::CommitInput { sequence_num: self.ticket.number };
        let ticket = self.session.ticket();
        let output = self.send(&ticket, operation::COMMIT, &input, self.time_to_decide()).await?;
        Ok(self.placed(decode::<wire::CommitOutput>(&output)?.outputs))
    }

    /// A Prepare that is still on its way must not arrive after its Abort: its fate comes first.
    async fn undo(&self, is_prepared: bool) {
        let mut is_prepared = is_prepared;
        while !is_prepared {
            match self.prepare(SETTLE_TIMEOUT).await {
                Ok(()) => is_prepared = true,
                Err(Error::Unavailable { .. }) => {}
                // Refused, or gone with the session.
                Err(_) => return,
            }
        }
        let input = wire::AbortInput { sequence_num: self.ticket.number };
        let ticket = self.session.ticket();
        let aborted = self.send(&ticket, operation::ABORT, &input, self.time_to_decide()).await;
        if let Err(error) = aborted {
            warn!(%error, "prepared writes are rolled back when the session ends");
        }
    }

    /// As long as the session may live, and what is prepared with it.
    fn time_to_decide(&self) -> Duration {
        self.primitive.timeout.max(self.session.timeout())
    }

    async fn send<I: Message>(
        &self,
        ticket: &Ticket,
        operation: u32,
        input: &I,
        timeout: Duration,
    ) -> Result<Bytes, Error> {
        let command = self.primitive.operation(operation, input).command(self.id);
        let deadline = Deadline::after(timeout);
        let answer = self.session.send(ticket.number, command, deadline).await?;
        Ok(answer.value)
    }

    fn placed(&self, outputs: Vec<wire::MapOutput>) -> Outputs {
        self.places.iter().copied().zip(outputs).collect()
    }
}

fn key(input: &Input) -> &str {
    match input {
        Input::Put(input) => &input.key,
        Input::Insert(input) => &input.key,
        Input::Update(input) => &input.key,
        Input::Remove(input) => &input.key,
        _ => unreachable!("a transaction is built of these four"),
    }
}

fn effect(output: wire::MapOutput) -> Option<Effect> {
    let (index, previous) = match output.output? {
        Output::Put(output) => (Some(output.index), output.prev_value),
        Output::Insert(output) => (Some(output.index), None),
        Output::Update(output) => (Some(output.index), output.prev_value),
        Output::Remove(output) => (None, output.value),
        _ => return None,
    };
    Some(Effect { version: index.map(Version), previous: previous.map(Into::into) })
}

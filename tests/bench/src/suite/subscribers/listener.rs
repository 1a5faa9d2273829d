//! One subscription: every change of the hot key once, in order.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use hdrhistogram::Histogram;
use multiraft_proto::map::event::Event as Kind;
use multiraft_proto::v1::StreamAnswer;
use multiraft_proto::v1::operation_response_headers::Status;
use multiraft_proto::v1::stream_call::Call;
use multiraft_proto::{map, rpc};
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::lane::{Lane, may_pass};
use crate::probe::TIME_US_MAX;
use crate::session::{Session, describe};
use crate::streamed::operation;
use crate::suite::violation::Violation;

pub const KEY: &str = "hot";
const VALUE_BYTES: usize = 64;

/// What the writer and all subscribers know.
#[derive(Default)]
pub struct Shared {
    /// When each value was sent; the values are 0, 1, 2 and so on.
    pub sent: RefCell<Vec<Instant>>,
    pub violation: Violation,
}

impl Shared {
    pub fn last(&self) -> u64 {
        (self.sent.borrow().len() as u64).saturating_sub(1)
    }

    /// The next value, which is sent now.
    pub fn next(&self) -> Vec<u8> {
        let mut sent = self.sent.borrow_mut();
        let mut value = (sent.len() as u64).to_be_bytes().to_vec();
        value.resize(VALUE_BYTES, b'v');
        sent.push(Instant::now());
        value
    }
}

/// What some subscribers have received.
pub struct Tally {
    pub delivered: Cell<u64>,
    pub repeated: Cell<u64>,
    pub lags: RefCell<Histogram<u64>>,
}

impl Tally {
    pub fn new() -> anyhow::Result<Rc<Self>> {
        let lags = RefCell::new(Histogram::new_with_bounds(1, TIME_US_MAX, 3)?);
        Ok(Rc::new(Self { delivered: Cell::new(0), repeated: Cell::new(0), lags }))
    }

    pub fn delivered(&self, lag: Duration) {
        self.delivered.set(self.delivered.get() + 1);
        self.lags.borrow_mut().saturating_record(lag.as_micros() as u64);
    }

    /// p50, p99 and the highest, in ms.
    pub fn lags(&self) -> [f64; 3] {
        let lags = self.lags.borrow();
        [0.5, 0.99, 1.0].map(|part| lags.value_at_quantile(part) as f64 / 1e3)
    }

    pub fn clear(&self) {
        self.delivered.set(0);
        self.lags.borrow_mut().reset();
    }
}

pub struct Listener {
    name: usize,
    shared: Rc<Shared>,
    tally: Rc<Tally>,
    /// Outputs that were received.
    received: Rc<Cell<u64>>,
    /// The newest value, and its version once one has come.
    value: Cell<u64>,
    version: Cell<Option<u64>>,
    /// It was asked for again: outputs may come again.
    resumed: Cell<bool>,
    broken: Notify,
}

impl Listener {
    /// Nothing is written between this and its first output.
    pub fn new(name: usize, shared: Rc<Shared>, tally: Rc<Tally>) -> Rc<Self> {
        let value = Cell::new(shared.last());
        let (received, version, resumed) = Default::default();
        Rc::new(Self {
            name,
            shared,
            tally,
            received,
            value,
            version,
            resumed,
            broken: Notify::new(),
        })
    }

    pub fn stands(&self) -> bool {
        self.received.get() > 0
    }

    pub fn value(&self) -> u64 {
        self.value.get()
    }

    fn take(&self, answer: StreamAnswer) {
        if may_pass(&answer) {
            return self.broken.notify_one();
        }
        if let Err(what) = self.check(&answer) {
            self.shared.violation.found(format!("subscriber {}: {what}", self.name));
        }
    }

    fn check(&self, answer: &StreamAnswer) -> Result<(), String> {
        if answer.code != 0 || answer.status() != Status::Ok {
            return Err(format!("its stream ended: {}", describe(answer)));
        }
        let (sequence, received) = (answer.output_sequence_num, self.received.get());
        if sequence <= received && self.resumed.get() {
            self.tally.repeated.set(self.tally.repeated.get() + 1);
            return Ok(());
        }
        if sequence != received + 1 {
            return Err(format!("output {sequence} follows {received}"));
        }
        self.received.set(sequence);
        if sequence == 1 {
            return Ok(());
        }
        let output = map::EventsOutput::decode(answer.output.clone().unwrap_or_default());
        let event = output.map_err(|error| format!("output {sequence}: {error}"))?.event;
        match event.and_then(|event| event.event) {
            Some(Kind::Updated(updated)) => self.updated(&updated),
            other => Err(format!("output {sequence} is no update but {other:?}")),
        }
    }

    fn updated(&self, updated: &map::event::Updated) -> Result<(), String> {
        let (value, before) = (updated.value.as_ref(), updated.prev_value.as_ref());
        let (number, last) = (value.and_then(|v| number(&v.value)), self.value.get());
        if number != Some(last + 1) {
            return Err(format!("value {number:?} follows {last}"));
        }
        let before = before.map(|before| before.index);
        if self.version.get().is_some() && self.version.get() != before {
            return Err(format!(
                "version {before:?} was before {number:?}, not {:?}",
                self.version
            ));
        }
        self.value.set(last + 1);
        self.version.set(value.map(|value| value.index));
        let lag = self.shared.sent.borrow().get(last as usize + 1).map(Instant::elapsed);
        let lag = lag.ok_or_else(|| format!("value {} was never sent", last + 1))?;
        self.tally.delivered(lag);
        Ok(())
    }
}

/// A value carries its number first.
pub fn number(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

/// Listens over a lane, and goes on where it was whenever that breaks.
pub async fn subscribe(lane: Rc<Lane>, session: Rc<Session>, of: u64, listener: Rc<Listener>) {
    let number = session.number();
    session.acknowledge(number, listener.received.clone());
    let input = map::EventsInput { key: KEY.into(), ..Default::default() };
    let input = operation((session.life.session, of), (number, rpc::map::EVENTS), &input);
    loop {
        let stream = lane.stream().await;
        let told = listener.clone();
        let each = Rc::new(move |answer| told.take(answer));
        stream.listen(session.group, Call::Command(input.clone()), each);
        tokio::select! {
            _ = stream.ended() => {}
            () = listener.broken.notified() => {}
        }
        listener.resumed.set(true);
        // What it has is not sent again.
        session.keep().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener() -> Rc<Listener> {
        let shared = Rc::<Shared>::default();
        shared.sent.borrow_mut().push(Instant::now());
        let listener = Listener::new(0, shared.clone(), Tally::new().unwrap());
        shared.sent.borrow_mut().extend([Instant::now(); 9]);
        listener
    }

    /// The output that says of this value, of this version, that it was written over another.
    fn output(sequence: u64, value: u64, [before, version]: [u64; 2]) -> StreamAnswer {
        let indexed = |value: u64, index| map::IndexedValue {
            value: value.to_be_bytes().to_vec().into(),
            index,
        };
        let (value, prev_value) = (indexed(value, version), indexed(value - 1, before));
        let updated = map::event::Updated { value: Some(value), prev_value: Some(prev_value) };
        let event = map::Event { key: KEY.into(), event: Some(Kind::Updated(updated)) };
        let output = map::EventsOutput { event: Some(event) }.encode_to_vec();
        StreamAnswer {
            output_sequence_num: sequence,
            status: Status::Ok.into(),
            output: Some(output.into()),
            ..Default::default()
        }
    }

    fn first() -> StreamAnswer {
        let status = Status::Ok.into();
        StreamAnswer { output_sequence_num: 1, status, ..Default::default() }
    }

    #[test]
    fn changes_in_order_are_taken() {
        let listener = listener();
        for answer in [first(), output(2, 1, [7, 9]), output(3, 2, [9, 12])] {
            listener.check(&answer).unwrap();
        }
        assert_eq!((listener.value(), listener.tally.delivered.get()), (2, 2));
    }

    #[test]
    fn a_gap_a_repeat_and_a_wrong_version_are_seen() {
        for (wrong, expected) in [
            (output(4, 3, [9, 12]), "output 4 follows 2"),
            (output(3, 3, [9, 12]), "value Some(3) follows 1"),
            (output(3, 1, [9, 12]), "value Some(1) follows 1"),
            (output(2, 1, [7, 9]), "output 2 follows 2"),
            (output(3, 2, [8, 12]), "version Some(8) was before"),
        ] {
            let listener = listener();
            listener.check(&first()).unwrap();
            listener.check(&output(2, 1, [7, 9])).unwrap();
            let seen = listener.check(&wrong).unwrap_err();
            assert!(seen.starts_with(expected), "{seen}");
        }
    }

    #[test]
    fn who_asked_again_may_be_told_again() {
        let listener = listener();
        listener.check(&first()).unwrap();
        listener.resumed.set(true);
        listener.check(&first()).unwrap();
        listener.check(&output(2, 1, [7, 9])).unwrap();
        assert_eq!(listener.tally.repeated.get(), 1);
        assert_eq!(listener.check(&output(4, 2, [9, 12])).unwrap_err(), "output 4 follows 2");
    }
}

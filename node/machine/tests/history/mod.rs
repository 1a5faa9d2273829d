//! Random histories of a group: what clients, forwarding nodes and leaders may do to a machine, also
//! what they should not.

mod calls;
mod keyed;

use bytes::Bytes;
use fastrand::Rng;
use multiraft_machine::{Effect, Machine};
use multiraft_proto::log::{Cancel, LogEntry, LogItem, Tick, log_item};
use multiraft_proto::v1::partition_input::Payload;
use multiraft_proto::v1::{
    CloseServiceInput, CloseSessionInput, CreateServiceInput, DestroyPrimitiveInput,
    ExpireSessionInput, KeepAliveInput, OpenSessionInput, PartitionInput, Quota, ServiceInput,
    SessionInput, SetQuotaInput, session_input,
};
use multiraft_proto::{counter, map, rpc};
use prost::Message;

const TERM: u64 = 3;
/// Items that may be sent again.
const RECENT: usize = 64;
/// Maps have the rarest states, and the last is unknown to the machine.
const SERVICES: [&str; 13] = [
    rpc::counter::TYPE,
    rpc::map::TYPE,
    rpc::map::TYPE,
    rpc::map::TYPE,
    rpc::map::TYPE,
    rpc::countermap::TYPE,
    rpc::election::TYPE,
    rpc::indexedmap::TYPE,
    rpc::lock::TYPE,
    rpc::multimap::TYPE,
    rpc::set::TYPE,
    rpc::value::TYPE,
    "atomix.runtime.list.v1.List",
];

#[derive(Clone)]
pub struct History {
    rng: Rng,
    log_time: u64,
    calls: u64,
    /// Highest number of a command in any session: numbers are common to all, which leaves gaps.
    sequence: u64,
    recent: Vec<LogItem>,
}

impl History {
    pub fn new(seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        Self { rng, log_time: 1_000_000, calls: 0, sequence: 0, recent: Vec::new() }
    }

    /// The next entry: it depends on the seed and on the ids that the machine gave out.
    pub fn entry(&mut self, machine: &Machine) -> Bytes {
        if self.rng.u32(..50) == 0 {
            return Bytes::new();
        }
        self.log_time += match self.rng.u32(..100) {
            0..60 => self.rng.u64(..20),
            60..99 => self.rng.u64(..1_000),
            _ => self.rng.u64(..40_000),
        };
        let mut items = Vec::new();
        for _ in 0..self.rng.usize(..6) {
            items.push(self.item(machine));
        }
        let term = if self.rng.u32(..40) == 0 { TERM - 1 } else { TERM };
        let (log_time, feature_level) = (self.log_time, self.rng.u32(..2));
        LogEntry { format: 1, feature_level, term, log_time, items }.encode_to_vec().into()
    }

    fn item(&mut self, machine: &Machine) -> LogItem {
        if !self.recent.is_empty() && self.rng.u32(..6) == 0 {
            return self.again();
        }
        self.calls += 1;
        let origin = self.rng.u64(..4);
        let item = LogItem { origin, number: self.calls, item: Some(self.input(machine)) };
        if self.recent.len() < RECENT {
            self.recent.push(item.clone());
        } else {
            let place = self.rng.usize(..RECENT);
            self.recent[place] = item.clone();
        }
        item
    }

    /// Forwarded twice, or repeated by the client through another node.
    fn again(&mut self) -> LogItem {
        let mut item = self.recent[self.rng.usize(..self.recent.len())].clone();
        if self.rng.bool() {
            self.calls += 1;
            (item.origin, item.number) = (self.rng.u64(1..4), self.calls);
        }
        item
    }

    fn input(&mut self, machine: &Machine) -> log_item::Item {
        let sessions: Vec<_> = machine.sessions().collect();
        let place = self.rng.usize(..=sessions.len());
        let Some(session) = sessions.get(place) else {
            let payload = match self.rng.u32(..6) {
                0 => Payload::CloseSession(CloseSessionInput { session_id: self.rng.u64(..50) }),
                1 => self.administration(machine),
                _ if sessions.len() < 6 => Payload::OpenSession(self.open_session()),
                _ => return log_item::Item::Tick(Tick {}),
            };
            return input(payload);
        };
        let session_id = session.session_id;
        match self.rng.u32(..40) {
            0 => log_item::Item::Input("does not decode".into()),
            1 => {
                let sequence_num = self.sequence;
                log_item::Item::Cancel(Cancel { session_id, sequence_num })
            }
            2 => input(Payload::CloseSession(CloseSessionInput { session_id })),
            3..9 => input(Payload::KeepAlive(self.keep_alive(session_id))),
            _ => {
                self.sequence += self.rng.u64(1..3);
                // Mostly a new number; sometimes one that is not, or that was released.
                let back = if self.rng.u32(..8) == 0 { self.rng.u64(..12) } else { 0 };
                let sequence_num = self.sequence.saturating_sub(back);
                let payload = Some(self.command(machine, &session.primitives));
                input(Payload::SessionInput(SessionInput { session_id, sequence_num, payload }))
            }
        }
    }

    fn administration(&mut self, machine: &Machine) -> Payload {
        match self.rng.u32(..8) {
            0 => {
                let ids: Vec<u64> = machine.sessions().map(|one| one.session_id).collect();
                let session_id = self.rng.choice(ids).unwrap_or(7);
                Payload::ExpireSession(ExpireSessionInput { session_id })
            }
            1 => {
                let ids: Vec<u64> = machine.primitives().map(|one| one.primitive_id).collect();
                let primitive_id = self.rng.choice(ids).unwrap_or(7);
                Payload::DestroyPrimitive(DestroyPrimitiveInput { primitive_id })
            }
            _ => {
                let namespace = ["", "space", "other"][self.rng.usize(..3)].to_owned();
                let mut limit = |most| self.rng.bool().then(|| self.rng.u64(..most));
                let (primitives, sessions, bytes) = (limit(12), limit(6), limit(400_000));
                let quota = Some(Quota { namespace, primitives, bytes, sessions });
                Payload::SetQuota(SetQuotaInput { quota })
            }
        }
    }

    fn open_session(&mut self) -> OpenSessionInput {
        let mut input = OpenSessionInput::default();
        input.timeout.get_or_insert_default().seconds = self.rng.i64(-1..60);
        input
    }

    fn keep_alive(&mut self, session_id: u64) -> KeepAliveInput {
        let through = (self.sequence + 3).saturating_sub(self.rng.u64(..20));
        let near = |rng: &mut Rng| (through + 2).saturating_sub(rng.u64(..12));
        let open = (0..self.rng.u32(..5)).map(|_| near(&mut self.rng)).collect();
        let acknowledged = (0..self.rng.u32(..3)).map(|_| (near(&mut self.rng), 1)).collect();
        KeepAliveInput {
            session_id,
            last_command_sequence_num: through,
            output_stream_sequence_nums: acknowledged,
            exact: true,
            open_sequence_nums: open,
            ..Default::default()
        }
    }

    fn command(&mut self, machine: &Machine, attached: &[u64]) -> session_input::Payload {
        let place = self.rng.usize(..=attached.len() * 6);
        let Some(service_id) = attached.get(place / 6).copied() else {
            let which = self.rng.usize(..SERVICES.len());
            return session_input::Payload::CreateService(CreateServiceInput {
                service: SERVICES[which].into(),
                namespace: if which.is_multiple_of(3) { "space".into() } else { String::new() },
                name: format!("{which}-{}", self.rng.u32(..2)),
            });
        };
        if self.rng.u32(..30) == 0 {
            return session_input::Payload::CloseService(CloseServiceInput { service_id });
        }
        // Mostly of the primitive's own kind.
        let own = machine.primitives().find(|one| one.primitive_id == service_id);
        let other = SERVICES[self.rng.usize(..SERVICES.len())];
        let is_own = self.rng.u32(..12) > 0;
        let service = own.filter(|_| is_own).map_or(other, |primitive| primitive.service);
        let (operation, payload) = match service {
            rpc::map::TYPE => self.write(),
            rpc::election::TYPE => self.elect(),
            rpc::lock::TYPE => self.lock(),
            rpc::set::TYPE => self.add(),
            rpc::value::TYPE => self.set(),
            rpc::countermap::TYPE => self.count_key(),
            rpc::indexedmap::TYPE => self.append(),
            rpc::multimap::TYPE => self.collect(),
            _ => self.count(),
        };
        session_input::Payload::ServiceInput(ServiceInput { service_id, operation, payload })
    }

    fn count(&mut self) -> (u32, Bytes) {
        match self.rng.u32(..3) {
            0 => (rpc::counter::SET, encode(&counter::SetInput { value: self.rng.i64(..) })),
            1 => {
                let delta = self.rng.i64(-9..9);
                (rpc::counter::INCREMENT, encode(&counter::IncrementInput { delta }))
            }
            _ => {
                let (compare, update) = (0, self.rng.i64(0..5));
                (rpc::counter::UPDATE, encode(&counter::UpdateInput { compare, update }))
            }
        }
    }

    fn write(&mut self) -> (u32, Bytes) {
        let sequence_num = self.rng.u64(..3);
        match self.rng.u32(..40) {
            0 => (rpc::map::CLEAR, encode(&map::ClearInput {})),
            1..6 => {
                let inputs = self.writes();
                (rpc::map::PREPARE, encode(&map::PrepareInput { sequence_num, inputs }))
            }
            6 => (rpc::map::COMMIT, encode(&map::CommitInput { sequence_num })),
            7 => (rpc::map::ABORT, encode(&map::AbortInput { sequence_num })),
            8..10 => {
                let inputs = self.writes();
                (rpc::map::APPLY, encode(&map::ApplyInput { inputs }))
            }
            10..19 => self.lock_keys(),
            19..21 => {
                let (key, prefix) = self.filter();
                (rpc::map::EVENTS, encode(&map::EventsInput { key, prefix }))
            }
            21..25 => {
                (rpc::map::REMOVE, encode(&map::RemoveInput { key: self.key(), prev_index: 0 }))
            }
            _ => (rpc::map::PUT, encode(&self.put())),
        }
    }

    fn writes(&mut self) -> Vec<map::MapInput> {
        use map::map_input::Input;
        let write = |history: &mut Self| match history.rng.u32(..4) {
            0 => Input::Remove(map::RemoveInput { key: history.key(), prev_index: 0 }),
            1 => {
                let map::PutInput { key, value, ttl, .. } = history.put();
                Input::Insert(map::InsertInput { key, value, ttl })
            }
            2 => {
                let map::PutInput { key, value, ttl, prev_index } = history.put();
                Input::Update(map::UpdateInput { key, value, ttl, prev_index })
            }
            _ => Input::Put(history.put()),
        };
        let count = self.rng.usize(..4);
        (0..count).map(|_| map::MapInput { input: Some(write(self)) }).collect()
    }

    fn put(&mut self) -> map::PutInput {
        // A few are large, so that histories fill several chunks.
        let length = if self.rng.u32(..8) == 0 { 200_000 } else { 12 };
        let length = self.rng.usize(..length);
        let value = std::iter::repeat_n(self.rng.u8(..), length).collect();
        let mut put = map::PutInput { key: self.key(), value, ..Default::default() };
        if self.rng.bool() {
            put.ttl.get_or_insert_default().seconds = self.rng.i64(0..15);
        }
        put
    }

    fn key(&mut self) -> String {
        format!("key-{}", self.rng.u32(..12))
    }
}

fn input(payload: Payload) -> log_item::Item {
    log_item::Item::Input(encode(&PartitionInput { payload: Some(payload) }))
}

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

pub fn apply(machine: &mut Machine, entry: &Bytes) -> Vec<Effect> {
    let mut effects = Vec::new();
    machine.apply(TERM, entry, &mut effects).expect("an entry of a working leader");
    effects
}

//! What is counted: shards and machines fed as a host feeds them, without disk and network.

use bytes::Bytes;
use multiraft_machine::Machine;
use multiraft_proto::log::{LogEntry, LogItem, log_item};
use multiraft_proto::v1::{
    CreateServiceInput, OpenSessionInput, PartitionInput, ServiceInput, SessionInput,
    partition_input, session_input,
};
use multiraft_proto::{map, rpc};
use multiraft_shard::limits::TICK_MICROS;
use multiraft_shard::{
    AdminRequest, GroupSpec, Identity, Input, LinkCommand, Member, NodeFacts, Now, Role, Shard,
    Timing,
};
use prost::Message as _;

/// All commands are made in every run: only what becomes of them differs.
const COMMANDS: usize = 1200;
/// Groups and commands of each in one round.
const ROUND_GROUPS: usize = 20;
const ROUND_COMMANDS: usize = 10;
/// Groups that have one command each in a round.
const SPREAD_GROUPS: usize = 200;
const KEYS: usize = 100;
const SESSION: u64 = 1;
const MAP: u64 = 2;
/// Leaders are elected within so many ticks.
const TICKS: usize = 100;

/// Runs a workload with so many commands.
pub fn run(name: &str, count: usize) {
    assert!(count <= COMMANDS && count.is_multiple_of(ROUND_GROUPS * ROUND_COMMANDS));
    let commands: Vec<Bytes> = (0..COMMANDS).map(put).collect();
    match name {
        "propose" => rounds(Nodes::formed(1, 1), &commands[..count], 1, 1),
        "round" => {
            rounds(Nodes::formed(1, ROUND_GROUPS), &commands[..count], ROUND_GROUPS, ROUND_COMMANDS)
        }
        "replicate" => rounds(Nodes::formed(3, 1), &commands[..count], 1, ROUND_COMMANDS),
        "spread" => rounds(Nodes::formed(3, SPREAD_GROUPS), &commands[..count], SPREAD_GROUPS, 1),
        "apply" => apply(&commands, count),
        "repeat" => apply(&vec![commands[0].clone(); COMMANDS], count),
        other => panic!("{other} is no workload"),
    }
}

/// Rounds with `each` commands for each of the groups, one after the other.
fn rounds(mut nodes: Nodes, commands: &[Bytes], groups: usize, each: usize) {
    for commands in commands.chunks(groups * each) {
        for (number, input) in commands.iter().enumerate() {
            nodes.propose(1 + (number % groups) as u32, input.clone());
        }
        nodes.settle();
    }
}

/// One machine; each command is an entry of its own.
fn apply(commands: &[Bytes], count: usize) {
    let mut machine = Machine::new();
    let mut effects = Vec::new();
    let inputs: Vec<Bytes> = setup().into_iter().chain(commands.iter().cloned()).collect();
    // Made in every run as well.
    let entries: Vec<Bytes> = inputs.into_iter().map(entry).collect();
    for entry in &entries[..setup().len() + count] {
        machine.apply(1, entry, &mut effects).expect("a good entry");
        effects.clear();
    }
}

fn entry(input: Bytes) -> Bytes {
    let item = LogItem { origin: 1, number: 1, item: Some(log_item::Item::Input(input)) };
    let items = vec![item];
    let entry = LogEntry { format: 1, term: 1, log_time: 1, items, ..Default::default() };
    entry.encode_to_vec().into()
}

/// A session and its map.
fn setup() -> [Bytes; 2] {
    let open = partition_input::Payload::OpenSession(OpenSessionInput::default());
    let create = CreateServiceInput {
        service: rpc::map::TYPE.into(),
        namespace: "default".into(),
        name: "map".into(),
    };
    [encoded(open), command(1, session_input::Payload::CreateService(create))]
}

fn put(number: usize) -> Bytes {
    let key = format!("key-{:05}", number * 37 % KEYS);
    let put = map::PutInput { key, value: vec![7; 128].into(), ..Default::default() };
    let payload = put.encode_to_vec().into();
    let input = ServiceInput { service_id: MAP, operation: rpc::map::PUT, payload };
    command(number as u64 + 2, session_input::Payload::ServiceInput(input))
}

fn command(sequence_num: u64, payload: session_input::Payload) -> Bytes {
    let payload = Some(payload);
    let input = SessionInput { session_id: SESSION, sequence_num, payload };
    encoded(partition_input::Payload::SessionInput(input))
}

fn encoded(payload: partition_input::Payload) -> Bytes {
    PartitionInput { payload: Some(payload) }.encode_to_vec().into()
}

/// Nodes whose disks and links take no time.
struct Nodes {
    shards: Vec<Shard>,
    now: Now,
    asked: u64,
    answered: u64,
}

impl Nodes {
    /// Groups with a member on every node, led by the first, each with a session and a map.
    fn formed(nodes: usize, groups: usize) -> Self {
        let now = Now { micros: TICK_MICROS, unix_millis: 1_700_000_000_000 };
        let shards = (1..=nodes as u64).map(|node| shard(node, now)).collect();
        let mut formed = Self { shards, now, asked: 0, answered: 0 };
        let members: Vec<Member> = (1..=nodes as u64).map(member).collect();
        for (place, shard) in formed.shards.iter_mut().enumerate() {
            let spec =
                |group| GroupSpec { group, member_id: place as u64 + 1, members: members.clone() };
            let groups = (1..=groups as u32).map(spec).collect();
            let request = AdminRequest::Bootstrap { groups, fence: None };
            shard.handle(Input::Admin { token: 1, request });
        }
        (0..TICKS).for_each(|_| formed.tick());
        for input in setup() {
            for group in 1..=groups as u32 {
                formed.propose(group, input.clone());
            }
            formed.settle();
        }
        formed
    }

    fn tick(&mut self) {
        self.now.micros += TICK_MICROS;
        self.now.unix_millis += TICK_MICROS / 1000;
        for shard in &mut self.shards {
            shard.set_time(self.now);
            shard.handle(Input::Tick);
        }
        self.settle();
    }

    fn propose(&mut self, group: u32, input: Bytes) {
        self.asked += 1;
        let call = self.asked;
        self.shards[0].handle(Input::Command { call, group, input, cancel: None });
    }

    /// Rounds until nobody has anything to do.
    fn settle(&mut self) {
        loop {
            let mut is_quiet = true;
            for place in 0..self.shards.len() {
                let outputs = self.shards[place].round();
                assert_eq!(outputs.broken, None);
                for link in outputs.links {
                    if let LinkCommand::Dial { node, .. } = link {
                        self.shards[place].handle(Input::LinkOpened { peer: node });
                        is_quiet = false;
                    }
                }
                for (node, frame) in outputs.frames {
                    self.shards[node as usize - 1].handle(Input::Frame(frame));
                    is_quiet = false;
                }
                if let Some(record) = outputs.persist {
                    self.shards[place].handle(Input::Persisted { round: record.round });
                    is_quiet = false;
                }
                for (_, result) in outputs.answers {
                    result.expect("a command that is carried out");
                    self.answered += 1;
                }
                is_quiet &= !self.shards[place].is_busy();
            }
            if is_quiet {
                break;
            }
        }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        assert_eq!(self.answered, self.asked, "every command is answered");
    }
}

fn shard(node_id: u64, now: Now) -> Shard {
    let identity = Identity {
        node_id,
        incarnation: 100 + node_id,
        boot: 1,
        host: "node".into(),
        peer_port: node_id as u16,
        client_address: "node:1".into(),
    };
    let timing = Timing { election_ticks: 10, heartbeat_ticks: 1, seed: node_id };
    let facts = NodeFacts { activated: true, ..Default::default() };
    let mut shard = Shard::new(identity, facts, timing, Vec::new(), now);
    shard.start();
    shard
}

fn member(id: u64) -> Member {
    Member { member_id: id, node_id: id, host: "node".into(), port: id as u16, role: Role::Voter }
}

//! Three nodes, one of which is given a damaged frame. They must go on serving.

use super::Seeds;
use bytes::Bytes;
use multiraft_proto::link::{Ask, AskAnswer, Proxy, ask, ask_answer, proxy};
use multiraft_proto::v1::{OpenSessionInput, PartitionInput, partition_input::Payload};
use multiraft_shard::limits::TICK_MICROS;
use multiraft_shard::{
    AdminRequest, GroupSpec, Identity, Input, LinkCommand, Member, NodeFacts, Now, Outputs, Role,
    Shard, Timing,
};
use prost::Message as _;

const NODES: u64 = 3;
const GROUP: u32 = 1;
/// Elections and lost sessions included; in ticks.
const PATIENCE: u64 = 150;

struct Cluster {
    /// None: the node stopped because it is broken.
    nodes: Vec<Option<Shard>>,
    micros: u64,
    /// Every frame: (receiver, bytes).
    frames: Vec<(u64, Bytes)>,
    answered: bool,
    calls: u64,
}

impl Cluster {
    fn form() -> Self {
        let mut cluster = Cluster {
            nodes: (1..=NODES).map(|node| Some(shard(node))).collect(),
            micros: 0,
            frames: Vec::new(),
            answered: false,
            calls: 0,
        };
        for node in 1..=NODES {
            let spec = GroupSpec { group: GROUP, member_id: node, members: members() };
            let request = AdminRequest::Bootstrap { groups: vec![spec], fence: None };
            cluster.handle(node, Input::Admin { token: node, request });
        }
        cluster.settle();
        assert!(cluster.serves(&[1, 2, 3]), "the cluster forms");
        cluster
    }

    fn handle(&mut self, node: u64, input: Input) {
        if let Some(shard) = self.nodes.get_mut(node as usize - 1).and_then(Option::as_mut) {
            shard.handle(input);
        }
    }

    /// Carries out what the nodes ask until they ask for nothing more.
    fn settle(&mut self) {
        for _ in 0..200 {
            let mut idle = true;
            for node in 1..=NODES {
                let Some(shard) = &mut self.nodes[node as usize - 1] else { continue };
                let outputs = shard.round();
                idle &= outputs.frames.is_empty() && outputs.persist.is_none();
                self.carry_out(node, outputs);
            }
            if idle {
                return;
            }
        }
    }

    fn carry_out(&mut self, node: u64, outputs: Outputs) {
        if outputs.broken.is_some() {
            self.nodes[node as usize - 1] = None;
            (1..=NODES).for_each(|peer| self.handle(peer, Input::LinkClosed { peer: node }));
            return;
        }
        if let Some(record) = outputs.persist {
            self.handle(node, Input::Persisted { round: record.round });
        }
        for link in outputs.links {
            let (LinkCommand::Dial { node: peer, .. } | LinkCommand::Redial { node: peer }) = link;
            let lives = self.nodes.get(peer.wrapping_sub(1) as usize).is_some_and(Option::is_some);
            if lives {
                self.handle(node, Input::LinkOpened { peer });
            }
        }
        for take in outputs.take_snapshots {
            self.handle(
                node,
                Input::SnapshotTaken { group: take.group, life: take.life, bytes: None },
            );
        }
        for send in outputs.send_snapshots {
            let (group, member_id, index) = (send.group, send.member_id, send.index);
            self.handle(node, Input::SnapshotSent { group, member_id, index, arrived: false });
        }
        self.answered |= outputs.answers.iter().any(|(call, answer)| {
            *call == self.calls && answer.as_ref().is_ok_and(|answer| answer.result.is_ok())
        });
        for (to, frame) in outputs.frames {
            self.frames.push((to, frame.clone()));
            if (1..=NODES).contains(&to) {
                self.handle(to, Input::Frame(frame));
            }
        }
    }

    fn tick(&mut self) {
        self.micros += TICK_MICROS;
        let now = now(self.micros);
        for shard in self.nodes.iter_mut().flatten() {
            shard.set_time(now);
            shard.handle(Input::Tick);
        }
        self.settle();
    }

    /// Whether a command takes effect through one of these nodes.
    fn serves(&mut self, nodes: &[u64]) -> bool {
        self.answered = false;
        let input = open_session();
        for attempt in 0..PATIENCE {
            if attempt % 10 == 0 {
                self.calls += 1;
                for node in nodes {
                    let (call, input) = (self.calls, input.clone());
                    self.handle(*node, Input::Command { call, group: GROUP, input, cancel: None });
                }
                self.settle();
            }
            if self.answered {
                return true;
            }
            self.tick();
        }
        false
    }
}

fn open_session() -> Bytes {
    let payload = Some(Payload::OpenSession(OpenSessionInput::default()));
    PartitionInput { payload }.encode_to_vec().into()
}

fn now(micros: u64) -> Now {
    Now { micros, unix_millis: 1_700_000_000_000 + micros / 1_000 }
}

fn members() -> Vec<Member> {
    let member = |id| Member {
        member_id: id,
        node_id: id,
        host: format!("node-{id}"),
        port: 1,
        role: Role::Voter,
    };
    (1..=NODES).map(member).collect()
}

fn shard(node: u64) -> Shard {
    let identity = Identity {
        node_id: node,
        incarnation: 100 + node,
        boot: 1,
        host: format!("node-{node}"),
        peer_port: 1,
        client_address: format!("node-{node}:2"),
    };
    let timing = Timing { election_ticks: 10, heartbeat_ticks: 1, seed: node };
    let mut shard = Shard::new(identity, NodeFacts::default(), timing, Vec::new(), now(0));
    shard.start();
    shard
}

/// One byte chooses the node that hears the frame.
pub fn damaged(bytes: &[u8]) {
    let Some((choice, frame)) = bytes.split_first() else { return };
    let fed = u64::from(*choice) % NODES + 1;
    let mut cluster = Cluster::form();
    cluster.handle(fed, Input::Frame(Bytes::copy_from_slice(frame)));
    cluster.settle();
    let others: Vec<u64> = (1..=NODES).filter(|node| *node != fed).collect();
    assert!(cluster.serves(&others), "nodes {others:?} serve no more");
}

/// Frames that the nodes said while they formed and served, one of each kind to each node; and one
/// of each kind that they had no reason for.
pub fn frames() -> Seeds {
    let mut cluster = Cluster::form();
    (0..40).for_each(|_| cluster.tick());
    let mut seeds = Seeds::new();
    let mut seen = Vec::new();
    let with_item = |(_, frame): &&(u64, Bytes)| frame.len() > HEADER_BYTES;
    for (to, frame) in cluster.frames.iter().rev().filter(with_item) {
        let kind = (frame[HEADER_BYTES], *to);
        if !seen.contains(&kind) && seen.len() < SAID.len() {
            seeds.push((SAID[seen.len()], [&[*to as u8 - 1], &frame[..]].concat()));
            seen.push(kind);
        }
    }
    // As node 2 would say it to node 1.
    let header = cluster.frames.iter().rev().find(|(_, f)| f[9] == 2 && f[17] == 1);
    let header = header.map_or(&[][..], |(_, frame)| &frame[..HEADER_BYTES]);
    for (name, kind, payload) in unsaid() {
        let length = (payload.len() as u32).to_be_bytes();
        let item = [&[kind][..], &GROUP.to_be_bytes(), &length, &payload].concat();
        seeds.push((name, [&[0][..], header, &item].concat()));
    }
    seeds
}

/// Before a frame's items.
const HEADER_BYTES: usize = 58;

const SAID: [&str; 16] = [
    "said-00", "said-01", "said-02", "said-03", "said-04", "said-05", "said-06", "said-07",
    "said-08", "said-09", "said-10", "said-11", "said-12", "said-13", "said-14", "said-15",
];

/// Name, kind of the item, payload.
fn unsaid() -> Vec<(&'static str, u8, Vec<u8>)> {
    let call = Some(proxy::Call::Command(open_session()));
    let proxy = Proxy { origin: 9, number: 1, call };
    let join = Ask { ask: Some(ask::Ask::Join(members()[2].to_wire())) };
    let left = AskAnswer { answer: Some(ask_answer::Answer::Left(1)) };
    vec![
        ("forward-garbage", 2, b"garbage".to_vec()),
        ("proxy", 3, proxy.encode_to_vec()),
        ("rolled-back", 6, Vec::new()),
        ("ask-join", 8, join.encode_to_vec()),
        ("left", 9, left.encode_to_vec()),
        ("resign", 13, 1u64.to_be_bytes().to_vec()),
        ("contradiction", 15, Vec::new()),
    ]
}

//! Streams of events, led into what once tore them.

use multiraft_machine::{Answer, Body, Output, Query};
use multiraft_proto::v1::{CreateServiceInput, ServiceInput, SessionInput};
use multiraft_proto::v1::{partition_input, session_input};
use multiraft_proto::{map, rpc};
use multiraft_sim::Script;
use prost::Message as _;

const GROUP: u32 = 1;

/// A session that has a map.
struct Session {
    session_id: u64,
    map_id: u64,
    last: u64,
}

fn output(script: &mut Script, call: u64) -> Answer {
    script.until("an answer", |s| s.is_answered(call));
    script.answers(call)[0].clone().expect("it is answered")
}

impl Session {
    fn open(script: &mut Script, node: usize) -> Self {
        let call = script.send_write(node, GROUP);
        let answer = output(script, call);
        let Ok(Output::SessionOpened { session_id }) = answer.result else {
            panic!("no session: {answer:?}")
        };
        let create = session_input::Payload::CreateService(CreateServiceInput {
            service: rpc::map::TYPE.into(),
            namespace: String::new(),
            name: "map".into(),
        });
        let mut session = Session { session_id, map_id: 0, last: 1 };
        let call = session.send(script, node, 1, create);
        let Ok(Output::Operation { body: Body::PrimitiveCreated { primitive_id }, .. }) =
            output(script, call).result
        else {
            panic!("no map")
        };
        session.map_id = primitive_id;
        session
    }

    fn send(
        &self,
        script: &mut Script,
        node: usize,
        sequence_num: u64,
        payload: session_input::Payload,
    ) -> u64 {
        let (session_id, payload) = (self.session_id, Some(payload));
        let input = SessionInput { session_id, sequence_num, payload };
        script.send(node, GROUP, partition_input::Payload::SessionInput(input))
    }

    fn operate(
        &self,
        script: &mut Script,
        node: usize,
        sequence_num: u64,
        operation: u32,
        input: Vec<u8>,
    ) -> u64 {
        let service = ServiceInput { service_id: self.map_id, operation, payload: input.into() };
        self.send(script, node, sequence_num, session_input::Payload::ServiceInput(service))
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn subscribe(&self, script: &mut Script, node: usize, sequence_num: u64) -> u64 {
        let input = map::EventsInput::default().encode_to_vec();
        self.operate(script, node, sequence_num, rpc::map::EVENTS, input)
    }

    fn put(&mut self, script: &mut Script, node: usize, value: Vec<u8>) -> u64 {
        let sequence_num = self.next();
        let value = value.into();
        let input = map::PutInput { key: "key".into(), value, ..Default::default() };
        self.operate(script, node, sequence_num, rpc::map::PUT, input.encode_to_vec())
    }
}

/// The numbers of the outputs of a stream so far, and whether it has ended.
fn told(script: &Script, call: u64) -> (Vec<u64>, bool) {
    let answers = script.answers(call);
    let numbers = answers.iter().flatten().map(|answer| match &answer.result {
        Ok(Output::Operation { sequence, last: false, .. }) => *sequence,
        other => panic!("no event: {other:?}"),
    });
    (numbers.collect(), answers.iter().any(Result::is_err))
}

/// The leader and the other nodes.
fn roles(script: &Script) -> (usize, Vec<usize>) {
    let leader = script.leader(GROUP).expect("a leader");
    (leader, (0..3).filter(|node| *node != leader).collect())
}

#[test]
fn a_stream_has_no_gap_after_its_node_was_brought_up_to_date_by_a_snapshot() {
    let mut script = Script::new(5, 3, 3, 1);
    let (leader, others) = roles(&script);
    let served = others[0];
    let mut session = Session::open(&mut script, leader);
    let number = session.next();
    let stream = session.subscribe(&mut script, served, number);
    script.until("it is subscribed", |s| told(s, stream).0 == [1]);
    for other in [leader, others[1]] {
        script.cut(other, served);
        script.cut(served, other);
    }
    // Two snapshots trim the log meanwhile, the second also of what a member needs that is away. To
    // put what is there already fills the log and is no event.
    for _ in 0..2 {
        for _ in 0..12 {
            let call = session.put(&mut script, leader, vec![0; 200_000]);
            output(&mut script, call);
        }
        script.run_for(1_500_000);
    }
    for other in [leader, others[1]] {
        script.mend(other, served);
        script.mend(served, other);
    }
    // Puts go on while the snapshot arrives and the node asks for the stream again.
    let mut puts = 0_u64;
    let mut after = 100;
    while after > 0 {
        puts += 1;
        session.put(&mut script, leader, puts.to_be_bytes().to_vec());
        script.run_for(2_000);
        after -= u64::from(script.transfers() > 0);
        assert!(puts < 5_000, "no snapshot was sent");
    }
    let due: Vec<u64> = (1..=puts + 2).collect();
    script.until("all is told", |s| told(s, stream).0.len() >= due.len());
    assert_eq!(told(&script, stream), (due, false));
}

#[test]
fn who_waits_for_a_stream_that_a_late_copy_of_an_earlier_call_took_is_told() {
    let mut script = Script::new(5, 3, 3, 1);
    let (leader, others) = roles(&script);
    let mut session = Session::open(&mut script, leader);
    let number = session.next();
    // The first node does not reach the leader; the client goes to another one.
    script.cut(others[0], leader);
    session.subscribe(&mut script, others[0], number);
    script.run_for(100_000);
    let second = session.subscribe(&mut script, others[1], number);
    script.until("it is subscribed", |s| told(s, second).0 == [1]);
    script.mend(others[0], leader);
    script.until("it is told that it gets no more", |s| told(s, second).1);
    let call = session.put(&mut script, leader, vec![1]);
    output(&mut script, call);
    let third = session.subscribe(&mut script, others[1], number);
    script.until("it gets all", |s| told(s, third).0 == [1, 2]);
}

/// A group whose only living member cannot confirm a read, and a node outside it.
struct Silent {
    outsider: usize,
    /// Was killed.
    leader: usize,
    survivor: usize,
    session: Session,
}

impl Silent {
    fn new(script: &mut Script) -> Self {
        let outsider = (0..4).find(|node| script.state(*node, GROUP).is_none());
        let outsider = outsider.expect("three of four have the group");
        let leader = script.leader(GROUP).expect("a leader");
        let mut others = (0..4).filter(|node| *node != outsider && *node != leader);
        let (survivor, other) = others.next().zip(others.next()).expect("three members");
        let mut session = Session::open(script, leader);
        let call = session.put(script, leader, vec![1]);
        output(script, call);
        // The outsider learns of the group.
        script.run_for(3_000_000);
        script.kill(leader);
        script.kill(other);
        Silent { outsider, leader, survivor, session }
    }

    fn watch(&mut self, script: &mut Script) -> u64 {
        let input = map::EntriesInput { watch: true, ..Default::default() };
        let query = Query {
            session_id: self.session.session_id,
            primitive_id: self.session.map_id,
            operation: rpc::map::ENTRIES,
            input: input.encode_to_vec().into(),
            sequence_num: self.session.next(),
        };
        script.watch(self.outsider, GROUP, query)
    }

    /// Reads can be confirmed again: the list is told once, then a change.
    fn assert_told_once(mut self, script: &mut Script, watch: u64) {
        assert_eq!(script.answers(watch), []);
        script.start(self.leader);
        script.until("it is listed", |s| s.is_answered(watch));
        let call = self.session.put(script, self.survivor, vec![2]);
        output(script, call);
        script.until("it is told of the change", |s| s.answers(watch).len() > 1);
        script.run_for(1_000_000);
        assert_eq!(told(script, watch), (vec![0, 0], false));
    }
}

#[test]
fn who_watches_through_a_node_without_the_group_is_told_the_list_once_however_long_it_waits() {
    // Of other groups the node knows the nodes.
    let mut script = Script::new(5, 4, 3, 4);
    let mut silent = Silent::new(&mut script);
    let watch = silent.watch(&mut script);
    script.run_for(8_000_000);
    silent.assert_told_once(&mut script, watch);
}

#[test]
fn who_watches_through_a_node_that_asks_again_in_another_session_is_told_the_list_once() {
    let mut script = Script::new(5, 4, 3, 4);
    let mut silent = Silent::new(&mut script);
    // The question gets there; that it did, does not come back.
    script.cut(silent.survivor, silent.outsider);
    let watch = silent.watch(&mut script);
    script.run_for(2_500_000);
    script.mend(silent.survivor, silent.outsider);
    script.run_for(2_000_000);
    silent.assert_told_once(&mut script, watch);
}

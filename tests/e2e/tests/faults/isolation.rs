//! One group that is stuck, or that has more to do than it can, among 63 that have not.

use std::time::{Duration, Instant};

use multiraft_e2e::members::until;
use multiraft_e2e::nodes::{Node, Nodes};

use crate::crowd::{Calls, Crowd};
use crate::support::{alone, times};
use crate::writers::{Writers, Written, name_in};

const ALL: u32 = 64;
/// The group that is stuck or hot: the last one.
const BAD: u32 = ALL;
const OTHERS: u32 = ALL - 1;
/// Between two writes of a group's writer: a light load of some 600 commands a second.
const PACE: Duration = Duration::from_millis(100);

/// Callers of the bad group, each with so many calls at once.
const CALLERS: usize = 8;
const CALLS: usize = 25;
/// Of a hot group: large, and still served on a small machine.
const HOT_BYTES: usize = 64 << 10;
/// Of a stuck group, and of one whose callers together ask for more than a node holds for callers.
const STUCK_BYTES: usize = 1 << 10;
const FLOOD_BYTES: usize = 400 << 10;

/// What the others' callers saw in a part of the time.
struct Seen {
    count: usize,
    half: Duration,
    most: Duration,
}

impl Seen {
    fn between(all: &[Written], from: Instant, to: Instant) -> Self {
        let calls = all.iter().map(|w| w.calls.iter().filter(|(b, _)| *b >= from && *b < to));
        let mut took = Vec::new();
        for (group, calls) in (1..).zip(calls) {
            let before = took.len();
            took.extend(calls.map(|(began, ended)| *ended - *began));
            assert!(took.len() > before, "group {group} stood still");
        }
        took.sort_unstable();
        let at = |percent: usize| took[took.len() * percent / 100];
        Self { count: took.len(), half: at(50), most: at(99) }
    }

    fn print(&self, name: &str, quiet: &Seen) {
        let ratio = |own: Duration, quiet: Duration| own.as_secs_f64() / quiet.as_secs_f64();
        println!(
            "{OTHERS} groups beside one that is {name}: {} calls, p50 {:.1?} ({:.1} x quiet), p99 \
             {:.1?} ({:.1} x quiet)",
            self.count,
            self.half,
            ratio(self.half, quiet.half),
            self.most,
            ratio(self.most, quiet.most),
        );
    }
}

/// Many callers of the bad group.
fn crowd(endpoints: Vec<String>, key: &str, bytes: usize) -> Crowd {
    Crowd::start(CALLERS, Calls { endpoints, key: key.into(), count: CALLS, bytes })
}

async fn pass() -> Instant {
    tokio::time::sleep(Duration::from_secs(times(6, 60).into())).await;
    Instant::now()
}

/// Two of the bad group's members go to nodes of their own, which can be lost without the others.
async fn move_majority(nodes: &mut Nodes) {
    for number in [3, 4] {
        nodes.nodes.push(Node::new(&nodes.folder.path().join(number.to_string())));
        nodes.nodes[number].start();
        nodes.nodes[number].info().await;
        nodes.join(number, BAD, true).await;
    }
    for number in [1, 2] {
        let node_id = nodes.nodes[number].info().await.node_id;
        let members = nodes.state(BAD).await.members;
        let member = members.iter().find(|m| m.node_id == node_id).expect("it was formed there");
        nodes.remove(BAD, member.member_id).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_hot_or_stuck_does_not_stop_the_others() {
    let _alone = alone().await;
    let mut nodes = Nodes::formed(3, ALL, 3).await;
    let key = name_in(BAD, ALL, "bad");
    let through = nodes.nodes[0].address();
    let others = Writers::start(through.clone(), "other", ALL, OTHERS, PACE).await;
    let began = Instant::now();
    let quiet = pass().await;

    let callers = crowd(nodes.endpoints(), &key, HOT_BYTES);
    let hot = pass().await;
    let (written, refused, late) = callers.end().await;
    println!("the hot group: {written} writes, refused {refused}, without an answer {late}");
    assert!(written > 0, "a hot group is served, too");

    move_majority(&mut nodes).await;
    let callers = crowd(vec![through], &key, STUCK_BYTES);
    // They have sessions: what they send from now on is held for them.
    until("its callers write", async || callers.written() > CALLS as u64).await;
    for number in [3, 4] {
        nodes.nodes[number].kill();
        nodes.nodes[number].wait();
    }
    let (lost, before) = (Instant::now(), callers.written());
    let stuck = pass().await;
    callers.resize(FLOOD_BYTES);
    let flooded = pass().await;
    let (written, refused, late) = callers.end().await;
    let written = written - before;
    println!("the stuck group: {written} writes, refused {refused}, without an answer {late}");
    assert!(written <= (CALLERS * CALLS) as u64, "{written} writes of a group that is stuck");

    let others = others.end().await;
    let at_first = Seen::between(&others, began, quiet);
    at_first.print("quiet", &at_first);
    Seen::between(&others, quiet, hot).print("hot", &at_first);
    Seen::between(&others, lost, stuck).print("stuck", &at_first);
    Seen::between(&others, stuck, flooded).print("stuck and flooded", &at_first);
    let acknowledged: usize = others.iter().map(|w| w.calls.len()).sum();
    println!("faults: hot groups 1, stuck groups 1, acknowledged {acknowledged}, violations 0");
}

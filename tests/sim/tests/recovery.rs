//! A group that lost its majority for good is recovered by force, and what was lost stays out.

use multiraft_shard::{AdminRequest, Fence};
use multiraft_sim::Script;

const SECOND: u64 = 1_000_000;

fn recover(script: &mut Script, node: usize, number: u64) {
    let member_id = script.state(node, 1).expect("a member").member_id;
    let fence = Some(Fence {
        cluster_id: "cluster".into(),
        operator_epoch: 1,
        plan_hash: String::new(),
        incarnation: 0,
    });
    let (group, recovery, version) = (1, number, 0);
    script.admin(node, AdminRequest::ForceRecover { group, member_id, recovery, version, fence });
}

#[test]
fn the_survivor_goes_on_alone_and_the_lost_members_are_shut_out() {
    let mut script = Script::new(3, 3, 3, 1);
    for _ in 0..3 {
        script.write(0, 1);
    }
    let index = script.state(0, 1).expect("a member").index;
    script.kill(1);
    script.kill(2);
    script.run_for(5 * SECOND);
    assert_eq!(script.leader(1).filter(|n| *n != 0), None);
    recover(&mut script, 0, 1);
    script.until("it leads alone", |s| {
        s.configuration(1).is_some_and(|c| c.members.len() == 1) && s.leader(1) == Some(0)
    });
    script.write(0, 1);
    assert!(script.state(0, 1).expect("a member").index > index);
    script.start(1);
    script.start(2);
    script.until("they are closed", |s| {
        let closed = |n| s.state(n, 1).is_some_and(|state| state.phase() == Script::CLOSED);
        closed(1) && closed(2)
    });
    script.run_for(10 * SECOND);
    assert_eq!(script.leader(1), Some(0));
    script.write(0, 1);
}

#[test]
fn a_recovery_is_refused_while_there_is_a_majority_and_survives_a_restart() {
    let mut script = Script::new(4, 3, 3, 1);
    script.write(0, 1);
    let leader = script.leader(1).expect("led");
    recover(&mut script, leader, 1);
    script.run_for(2 * SECOND);
    assert_eq!(script.configuration(1).expect("led").members.len(), 3);
    let survivor = (leader + 1) % 3;
    script.kill(leader);
    script.kill((leader + 2) % 3);
    script.run_for(5 * SECOND);
    recover(&mut script, survivor, 1);
    script.until("it leads", |s| s.leader(1) == Some(survivor));
    script.write(survivor, 1);
    script.kill(survivor);
    script.run_for(SECOND);
    script.start(survivor);
    script.until("it leads again", |s| s.leader(1) == Some(survivor));
    assert_eq!(script.configuration(1).expect("led").members.len(), 1);
    script.write(survivor, 1);
}

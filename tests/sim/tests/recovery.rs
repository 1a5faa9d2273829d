//! A group that lost its majority for good is recovered by force, and what was lost stays out. A
//! member whose disk went back stays out too, and nobody counts on it.

use multiraft_shard::{AdminRequest, Fence, Wanted};
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

fn is_closed(script: &Script, node: usize) -> bool {
    script.state(node, 1).is_some_and(|state| state.phase() == Script::CLOSED)
}

/// A group of three, and what it wrote since the disk of one follower was copied: the leader, that
/// follower, and the other one.
fn with_an_older_copy() -> (Script, [usize; 3]) {
    let mut script = Script::new(5, 3, 3, 1);
    let leader = script.leader(1).expect("led");
    let (older, leaving) = ((leader + 1) % 3, (leader + 2) % 3);
    script.copy_disk(older);
    for _ in 0..3 {
        script.write(leader, 1);
    }
    script.run_for(3 * SECOND);
    (script, [leader, older, leaving])
}

#[test]
fn nobody_leaves_while_those_that_stay_are_not_a_sound_majority() {
    let (mut script, [_, older, leaving]) = with_an_older_copy();
    script.roll_back(older);
    script.until("it is refused", |s| is_closed(s, older));
    script.admin(leaving, AdminRequest::Leave { group: 1, fence: None });
    let member_id = script.state(leaving, 1).expect("a member").member_id;
    script.change(1, Wanted::Removed(member_id));
    script.run_for(5 * SECOND);
    assert_eq!(script.configuration(1).expect("led").members.len(), 3);
    script.write(leaving, 1);
    let member_id = script.state(older, 1).expect("a member").member_id;
    script.change(1, Wanted::Removed(member_id));
    script.until("the other is removed", |s| s.configuration(1).expect("led").members.len() == 2);
    script.admin(leaving, AdminRequest::Leave { group: 1, fence: None });
    script.until("it left", |s| s.state(leaving, 1).is_none());
}

#[test]
fn a_leader_that_meets_a_closed_member_late_does_not_count_on_it() {
    // Whoever noticed first that its disk went back closed it; it told the others nothing.
    let (mut script, [leader, older, leaving]) = with_an_older_copy();
    script.cut(older, leader);
    script.cut(leader, older);
    script.roll_back(older);
    script.until("it is refused", |s| is_closed(s, older));
    script.mend(older, leader);
    script.mend(leader, older);
    script.run_for(3 * SECOND);
    let member_id = script.state(leaving, 1).expect("a member").member_id;
    script.change(1, Wanted::Removed(member_id));
    script.run_for(5 * SECOND);
    assert_eq!(script.configuration(1).expect("led").members.len(), 3);
    script.write(leader, 1);
}

#[test]
fn a_peer_that_hears_late_of_a_member_refuses_its_older_disk_as_the_others_do() {
    let mut script = Script::new(5, 4, 3, 1);
    let outside = (0..4).find(|n| script.state(*n, 1).is_none()).expect("one holds nothing");
    let leader = script.leader(1).expect("led");
    let mut others = (0..4).filter(|n| *n != leader && *n != outside);
    let (late, other) = (others.next().expect("three"), others.next().expect("three"));
    script.kill(late);
    script.join(outside, 1, 4);
    script.until("it votes", |s| {
        let members = s.configuration(1).expect("led").members;
        members.iter().any(|m| m.member_id == 4 && m.role == 1)
    });
    script.copy_disk(outside);
    for _ in 0..3 {
        script.write(leader, 1);
    }
    script.run_for(3 * SECOND);
    // Nobody but the new member speaks to it, and then nobody but the others.
    for node in [leader, other] {
        script.cut(node, late);
    }
    script.start(late);
    script.run_for(3 * SECOND);
    for node in [leader, other] {
        script.mend(node, late);
    }
    script.until("it knows the new member", |s| {
        let index = s.state(leader, 1).expect("a member").index;
        s.state(late, 1).is_some_and(|state| state.index == index)
    });
    script.run_for(3 * SECOND);
    for node in [leader, other] {
        script.cut(node, outside);
    }
    script.roll_back(outside);
    script.until("it is refused", |s| is_closed(s, outside));
}

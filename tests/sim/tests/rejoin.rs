//! Nodes that come back to a group as another member.

use multiraft_proto::v1::GroupPhase;
use multiraft_shard::Wanted;
use multiraft_sim::Script;

const SECOND: u64 = 1_000_000;

#[test]
fn a_peer_that_missed_the_removal_of_a_member_does_not_refuse_its_successor() {
    let mut script = Script::new(7, 4, 3, 1);
    let leader = script.leader(1).expect("led");
    let outside = (0..4).find(|n| script.state(*n, 1).is_none()).expect("one holds nothing");
    let mut others = (0..4).filter(|n| *n != leader && *n != outside);
    let (moving, lagging) = (others.next().expect("three"), others.next().expect("three"));
    join(&mut script, outside, 4);
    for _ in 0..5 {
        script.write(leader, 1);
    }
    // All have heard what the others' disks hold.
    script.run_for(3 * SECOND);
    for node in [leader, outside, moving] {
        script.cut(node, lagging);
        script.cut(lagging, node);
    }
    script.run_for(2 * SECOND);
    let member = script.state(moving, 1).expect("a member").member_id;
    script.change(1, Wanted::Removed(member));
    script.until("its data is gone", |s| s.state(moving, 1).is_none());
    script.join(moving, 1, 5);
    script.until("it is there again", |s| s.state(moving, 1).is_some());
    for node in [leader, outside] {
        script.cut(node, moving);
        script.cut(moving, node);
    }
    // The one that lags meets it before it hears of the removal.
    script.mend(moving, lagging);
    script.mend(lagging, moving);
    script.run_for(3 * SECOND);
    let phase = script.state(moving, 1).expect("a member").phase();
    assert_ne!(phase, GroupPhase::RolledBack, "its disk is sound");
    for node in [leader, outside] {
        for other in [moving, lagging] {
            script.mend(node, other);
            script.mend(other, node);
        }
    }
    script.until("it follows", |s| s.state(moving, 1).is_some_and(|state| state.leader != 0));
    script.write(moving, 1);
}

#[test]
fn a_deposed_leader_does_not_send_away_a_member_that_it_never_knew() {
    let mut script = Script::new(7, 4, 3, 1);
    let deposed = script.leader(1).expect("led");
    let new = (0..4).find(|n| script.state(*n, 1).is_none()).expect("one holds nothing");
    let others: Vec<usize> = (0..4).filter(|n| *n != deposed && *n != new).collect();
    // The nodes know each other.
    join(&mut script, new, 4);
    script.change(1, Wanted::Removed(4));
    script.until("its data is gone", |s| s.state(new, 1).is_none());
    for node in &others {
        script.cut(deposed, *node);
        script.cut(*node, deposed);
    }
    script.pause(deposed, 25 * SECOND);
    let wakes = script.now() + 25 * SECOND;
    script.until("another leads", |s| s.leader(1).is_some_and(|n| others.contains(&n)));
    join(&mut script, new, 5);
    script.write(others[0], 1);
    script.run_for(SECOND);
    // It is without a leader for so long that it asks whoever it hears.
    for node in &others {
        script.cut(new, *node);
        script.cut(*node, new);
    }
    script.run_for(wakes + 3 * SECOND - script.now());
    assert!(script.state(new, 1).is_some(), "it deleted what a quorum counts on");
}

#[test]
fn a_member_learns_of_its_removal_although_the_leader_that_it_knows_was_removed_next() {
    let mut script = Script::new(7, 4, 3, 1);
    let outside = (0..4).find(|n| script.state(*n, 1).is_none()).expect("one holds nothing");
    join(&mut script, outside, 4);
    script.run_for(SECOND);
    let first = script.leader(1).expect("led");
    depose(&mut script, first);
    // Long enough to be settled, too short for the group to rest.
    script.run_for(SECOND / 20);
    let second = script.leader(1).expect("led");
    remove(&mut script, first);
    // It applies its removal, and does not hear that it may go; so short a cut breaks no session.
    while script.state(first, 1).expect("it hears later").role != 0 {
        script.run_for(10);
    }
    script.cut(second, first);
    depose(&mut script, second);
    script.run_for(SECOND / 20);
    remove(&mut script, second);
    script.until("the leader's data is gone", |s| s.state(second, 1).is_none());
    script.mend(second, first);
    script.until("all data of removed members is gone", |s| s.state(first, 1).is_none());
}

fn depose(script: &mut Script, leader: usize) {
    script.change(1, Wanted::Leader(0));
    script.until("another leads", |s| s.leader(1).is_some_and(|node| node != leader));
}

fn remove(script: &mut Script, node: usize) {
    let member = script.state(node, 1).expect("a member").member_id;
    script.change(1, Wanted::Removed(member));
}

/// A node joins and becomes a voter.
fn join(script: &mut Script, node: usize, member_id: u64) {
    script.join(node, 1, member_id);
    script.until("it votes", |s| {
        let members = s.configuration(1).map(|c| c.members).unwrap_or_default();
        members.iter().any(|m| m.member_id == member_id && m.role == 1)
    });
}

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
    script.join(outside, 1, 4);
    script.until("it votes", |s| {
        let members = s.configuration(1).map(|c| c.members).unwrap_or_default();
        members.iter().any(|m| m.member_id == 4 && m.role == 1)
    });
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

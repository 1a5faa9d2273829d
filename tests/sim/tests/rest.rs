//! Groups that rest, one scenario after another: what other systems got wrong, each named by its
//! issue, and what an earlier simulation of this algorithm found.

use multiraft_shard::Wanted;
use multiraft_sim::Script;

const SECOND: u64 = 1_000_000;

/// A cluster at rest.
fn resting(nodes: usize, voters: usize, groups: u32) -> Script {
    let mut script = Script::new(7, nodes, voters, groups);
    script.wait_for_rest();
    // What was under way arrives.
    script.run_for(SECOND);
    script
}

/// The others of a cluster of this size.
fn others(nodes: usize, node: usize) -> Vec<usize> {
    (0..nodes).filter(|n| *n != node).collect()
}

fn isolate(script: &mut Script, nodes: usize, node: usize) {
    for other in others(nodes, node) {
        script.cut(node, other);
        script.cut(other, node);
    }
}

fn heal(script: &mut Script, nodes: usize, node: usize) {
    for other in others(nodes, node) {
        script.mend(node, other);
        script.mend(other, node);
    }
}

/// Every group is led by one of these nodes.
fn led_by(script: &Script, groups: u32, nodes: &[usize]) -> bool {
    (1..=groups).all(|g| script.leader(g).is_some_and(|n| nodes.contains(&n)))
}

#[test]
fn idle_groups_send_nothing_and_do_not_wake_by_themselves() {
    // cockroach#63295: every tick woke what had just fallen asleep.
    let mut script = resting(3, 3, 100);
    let before = script.items();
    script.run_for(60 * SECOND);
    assert_eq!(script.items() - before, 0, "items between nodes in a minute of nothing");
    assert_eq!(script.sleeping(), 100);
}

#[test]
fn five_voters_and_learners_rest_too() {
    let mut script = resting(5, 5, 10);
    let before = script.items();
    script.run_for(20 * SECOND);
    assert_eq!(script.items() - before, 0);
}

#[test]
fn a_node_that_dies_leaves_no_group_without_a_leader() {
    // tidb#34906: each region stayed without a leader until somebody touched it.
    let mut script = resting(3, 3, 30);
    let dead = script.leader(1).expect("led");
    script.kill(dead);
    let alive = others(3, dead);
    let took = script.until("the others lead", |s| led_by(s, 30, &alive));
    println!("30 groups had a leader again {} ms after a kill", took / 1_000);
    assert!(took < 10 * SECOND);
    script.wait_for_rest();
}

#[test]
fn a_leader_cut_off_while_it_rests_is_replaced_and_returns_as_a_follower() {
    // tikv#16429: sleeping followers refused their votes to each other for ever.
    let mut script = resting(3, 3, 10);
    let lost = script.leader(1).expect("led");
    isolate(&mut script, 3, lost);
    let rest = others(3, lost);
    script.until("the others lead", |s| led_by(s, 10, &rest));
    script.write(rest[0], 1);
    heal(&mut script, 3, lost);
    script.until("it follows again", |s| {
        s.state(lost, 1).is_some_and(|state| state.leader != 0 && s.leader(1) != Some(lost))
    });
    script.write(lost, 1);
    script.wait_for_rest();
}

#[test]
fn a_leader_that_hears_nothing_does_not_stay_in_office() {
    let mut script = resting(3, 3, 10);
    let deaf = script.leader(1).expect("led");
    for other in others(3, deaf) {
        script.cut(other, deaf);
    }
    let hearing = others(3, deaf);
    let took = script.until("the others lead", |s| led_by(s, 10, &hearing));
    println!("a deaf leader was replaced after {} ms", took / 1_000);
    assert!(took < 10 * SECOND, "it stayed for {took} µs");
    let call = script.send_write(hearing[0], 1);
    script.until("writes go on", |s| s.is_answered(call));
}

#[test]
fn a_leader_that_nobody_hears_does_not_stay_in_office() {
    let mut script = resting(3, 3, 10);
    let mute = script.leader(1).expect("led");
    for other in others(3, mute) {
        script.cut(mute, other);
    }
    let hearing = others(3, mute);
    script.until("the others lead", |s| led_by(s, 10, &hearing));
    script.write(hearing[1], 1);
}

#[test]
fn a_member_that_comes_back_is_fed_without_anybody_asking() {
    // tikv#9022: a sleeping leader never told the one that had been away.
    let mut script = resting(3, 3, 1);
    let leader = script.leader(1).expect("led");
    let away = others(3, leader)[0];
    script.kill(away);
    script.run_for(SECOND);
    for _ in 0..5 {
        script.write(leader, 1);
    }
    script.wait_for_rest();
    script.start(away);
    let index = script.state(leader, 1).expect("a member").applied_index;
    script.until("it has applied what it missed", |s| {
        s.state(away, 1).is_some_and(|state| state.applied_index >= index)
    });
    script.wait_for_rest();
}

#[test]
fn a_new_member_is_added_and_fed_by_a_resting_leader() {
    // tiflash#1218
    let mut script = resting(4, 3, 1);
    let new = (0..4).find(|n| script.state(*n, 1).is_none()).expect("one holds nothing");
    script.join(new, 1, 4);
    script.until("it votes", |s| {
        let config = s.configuration(1);
        let member = config.and_then(|c| c.members.into_iter().find(|m| m.member_id == 4));
        member.is_some_and(|m| m.role == 1) && s.state(new, 1).is_some_and(|st| st.leader != 0)
    });
    script.wait_for_rest();
}

#[test]
fn a_rolling_restart_of_resting_nodes_banishes_no_leader() {
    // tikv#12166
    let mut script = resting(3, 3, 10);
    for node in 0..3 {
        script.kill(node);
        script.run_for(300_000);
        script.start(node);
        script.until("all groups are led", |s| (1..=10).all(|g| s.leader(g).is_some()));
        script.write(node, 1);
        script.wait_for_rest();
    }
}

#[test]
fn a_restart_within_the_window_of_silence_is_noticed() {
    let mut script = resting(3, 3, 10);
    let leader = script.leader(1).expect("led");
    let led: Vec<u32> = (1..=10).filter(|g| script.leader(*g) == Some(leader)).collect();
    script.kill(leader);
    script.run_for(20_000);
    script.start(leader);
    script.until("what it led is led again", |s| led.iter().all(|g| s.leader(*g).is_some()));
    for group in led {
        script.write(leader, group);
    }
    script.wait_for_rest();
}

#[test]
fn groups_that_are_used_now_and_then_do_not_fall_asleep_in_between() {
    // cockroach#103266: falling asleep and waking cost more than staying awake.
    let mut script = resting(3, 3, 1);
    let leader = script.leader(1).expect("led");
    for _ in 0..10 {
        script.write(leader, 1);
        script.run_for(1_500_000);
        assert_eq!(script.sleeping(), 0);
    }
}

#[test]
fn a_group_costs_nothing_between_its_commands() {
    let mut script = resting(3, 3, 1);
    let leader = script.leader(1).expect("led");
    let before = script.items();
    for _ in 0..20 {
        script.write(leader, 1);
        script.run_for(450_000);
    }
    // For each of two followers: entries and commit index with their answers; and each second what a
    // disk holds, from all to all. Heartbeats with their answers would be 16 more.
    let items = (script.items() - before) / 20;
    assert!(items <= 12, "{items} items for each command");
}

#[test]
fn a_leader_cut_off_between_two_commands_is_replaced() {
    for pause in [0, 50_000, 120_000, 260_000, 700_000] {
        let mut script = resting(3, 3, 1);
        let lost = script.leader(1).expect("led");
        script.write(lost, 1);
        script.run_for(pause);
        isolate(&mut script, 3, lost);
        let rest = others(3, lost);
        script.until("another leads", |s| led_by(s, 1, &rest));
        script.write(rest[0], 1);
        let stale = script.send_write(lost, 1);
        script.until("the old leader knows", |s| s.state(lost, 1).is_some_and(|s| s.leader == 0));
        assert!(!script.is_answered(stale), "acknowledged by a leader alone");
        heal(&mut script, 3, lost);
        script.until("it follows", |s| s.state(lost, 1).is_some_and(|s| s.leader != 0));
        script.wait_for_rest();
    }
}

#[test]
fn reads_and_writes_wake_a_resting_group_through_any_node() {
    let mut script = resting(3, 3, 1);
    for node in 0..3 {
        assert!(script.write(node, 1) < SECOND, "no election was needed");
        script.wait_for_rest();
        assert!(script.read(node, 1) < SECOND);
        script.wait_for_rest();
    }
}

#[test]
fn leadership_is_handed_over_by_a_resting_leader() {
    let mut script = resting(3, 3, 1);
    for node in [0, 1, 2, 0] {
        script.change(1, Wanted::Leader(node as u64 + 1));
        let took = script.until("it leads", |s| s.leader(1) == Some(node));
        assert!(took < SECOND, "a hand-over is no election: {took} µs");
        script.wait_for_rest();
    }
}

#[test]
fn a_leader_without_followers_is_not_kept_in_office_by_requests_to_hand_over() {
    // raft 0.7 starts the clock of its quorum anew with each of them.
    let mut script = resting(3, 3, 1);
    let lost = script.leader(1).expect("led");
    isolate(&mut script, 3, lost);
    let to = others(3, lost)[0] as u64 + 1;
    let start = script.now();
    while script.state(lost, 1).is_some_and(|s| s.leader == lost as u64 + 1) {
        assert!(script.now() < start + 10 * SECOND, "it is still in office");
        let group = 1;
        let wanted = Wanted::Leader(to);
        let request =
            multiraft_shard::AdminRequest::Change { group, wanted, version: 0, fence: None };
        script.admin(lost, request);
        script.run_for(200_000);
    }
}

#[test]
fn a_member_that_was_removed_while_the_group_rested_is_released() {
    let mut script = resting(4, 4, 1);
    let leader = script.leader(1).expect("led");
    let removed = others(4, leader)[0];
    let member = script.state(removed, 1).expect("a member").member_id;
    script.change(1, Wanted::Removed(member));
    script.until("its data is gone", |s| s.state(removed, 1).is_none());
    script.wait_for_rest();
    script.kill(leader);
    script.until("another leads", |s| s.leader(1).is_some_and(|n| n != leader && n != removed));
}

#[test]
fn a_member_that_was_away_when_it_was_removed_is_released_when_it_returns() {
    let mut script = resting(4, 4, 1);
    let leader = script.leader(1).expect("led");
    let removed = others(4, leader)[0];
    let member = script.state(removed, 1).expect("a member").member_id;
    script.kill(removed);
    script.run_for(SECOND);
    script.change(1, Wanted::Removed(member));
    script.until("it is removed", |s| s.configuration(1).is_some_and(|c| c.members.len() == 3));
    script.wait_for_rest();
    script.start(removed);
    script.until("its data is gone", |s| s.state(removed, 1).is_none());
}

#[test]
fn a_leader_that_is_removed_hands_over_first_and_goes() {
    let mut script = resting(3, 3, 1);
    let leader = script.leader(1).expect("led");
    let group = 1;
    script.admin(leader, multiraft_shard::AdminRequest::Leave { group, fence: None });
    script.until("another leads", |s| s.leader(1).is_some_and(|n| n != leader));
    script.until("its data is gone", |s| s.state(leader, 1).is_none());
    script.write(leader, 1);
    script.wait_for_rest();
}

#[test]
fn a_pause_of_the_leader_brings_another_and_no_stale_answer_after_it() {
    let mut script = resting(3, 3, 1);
    let leader = script.leader(1).expect("led");
    script.pause(leader, 5 * SECOND);
    let rest = others(3, leader);
    let took = script.until("another leads", |s| s.leader(1).is_some_and(|n| rest.contains(&n)));
    println!("a paused leader was replaced after {} ms", took / 1_000);
    script.write(rest[0], 1);
    script.run_for(6 * SECOND);
    script.read(leader, 1);
    script.wait_for_rest();
}

#[test]
fn a_pause_of_a_follower_changes_nothing() {
    let mut script = resting(3, 3, 5);
    let leaders: Vec<_> = (1..=5).map(|g| script.leader(g)).collect();
    let leader = script.leader(1).expect("led");
    let follower = others(3, leader)[0];
    if leaders.iter().all(|l| *l != Some(follower)) {
        script.pause(follower, 3 * SECOND);
        script.run_for(8 * SECOND);
        assert_eq!((1..=5).map(|g| script.leader(g)).collect::<Vec<_>>(), leaders);
    }
    script.write(follower, 1);
    script.wait_for_rest();
}

#[test]
fn two_of_five_may_die_together() {
    let mut script = resting(5, 5, 20);
    let first = script.leader(1).expect("led");
    let second = others(5, first)[1];
    script.kill(first);
    script.kill(second);
    let alive: Vec<_> = others(5, first).into_iter().filter(|n| *n != second).collect();
    let took = script.until("the others lead", |s| led_by(s, 20, &alive));
    println!("20 groups of five had a leader {} ms after two died", took / 1_000);
    script.wait_for_rest();
}

#[test]
fn connections_that_break_and_come_back_leave_every_group_led_and_at_rest() {
    let mut script = resting(3, 3, 10);
    for turn in 0..30 {
        let (from, to) = (turn % 3, (turn + 1) % 3);
        script.disconnect(from, to);
        script.run_for(70_000);
    }
    script.until("all groups are led", |s| (1..=10).all(|g| s.leader(g).is_some()));
    script.wait_for_rest();
}

#[test]
fn after_a_minority_is_lost_for_good_the_rest_rests() {
    let mut script = resting(3, 3, 10);
    script.kill(2);
    script.until("the others lead", |s| led_by(s, 10, &[0, 1]));
    script.wait_for_rest();
    script.run_for(SECOND);
    let before = script.items();
    script.run_for(20 * SECOND);
    assert_eq!(script.items() - before, 0);
}

#[test]
fn a_connection_that_leads_nowhere_is_made_anew_although_its_node_is_heard() {
    // A node that began anew spoke to a leader whose own connection still led to the node before.
    let mut script = resting(3, 3, 10);
    let leader = script.leader(1).expect("led");
    let other = (leader + 1) % 3;
    script.stall(leader, other);
    script.run_for(SECOND);
    let hears = |s: &Script| s.state(other, 1).is_some_and(|state| state.leader != 0);
    script.until("it has a leader", hears);
    for _ in 0..3 {
        script.write(other, 1);
        script.run_for(SECOND);
    }
    let (own, led) = (script.state(other, 1), script.state(script.leader(1).expect("led"), 1));
    assert_eq!(own.expect("a member").index, led.expect("a member").index);
}

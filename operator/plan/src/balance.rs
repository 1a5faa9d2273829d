//! Leaders where they belong: every node leads about the same number of groups.

use crate::operation::Work;
use crate::planning::{Call, NodeCall};
use crate::situation::Situation;
use multiraft_api::{OperationType, Rebalance};
use multiraft_proto::v1;
use std::collections::BTreeMap;

/// Leaderships that change in one pass: each is milliseconds for one group, and a view of who leads
/// is as old as the pass.
const TRANSFERS_AT_ONCE: usize = 8;

pub fn leaders(s: &Situation) -> Option<Work> {
    let whole = s.groups.iter().all(|g| g.is_whole(s.voters));
    if s.cluster.spec.placement.rebalance == Rebalance::Manual || !whole {
        return None;
    }
    let calls = transfers(s);
    if calls.is_empty() {
        return None;
    }
    let mut work = Work::new(s, OperationType::Rebalance, "leaders", "TransferLeaders")
        .told(format!("{} leaderships go to nodes that lead fewer groups", calls.len()));
    work.calls = calls;
    Some(work)
}

/// What would make the leaders more even.
pub fn transfers(s: &Situation) -> Vec<NodeCall> {
    let mut led: BTreeMap<i32, usize> =
        s.seats.iter().map(|seat| (seat.slot, s.led_by(seat.slot, false))).collect();
    let mut calls = Vec::new();
    for group in &s.groups {
        let Some(leader) = &group.led else { continue };
        let count = |slot: i32| led.get(&slot).copied().unwrap_or(0);
        let from = leader.slot;
        let willing = |slot: &i32| s.seat(*slot).is_some_and(|t| t.is_ready() && !t.is_draining());
        let others = group.voters().filter_map(|m| m.slot).filter(|slot| *slot != from);
        let Some(to) = others.filter(willing).min_by_key(|slot| (count(*slot), *slot)) else {
            continue;
        };
        if count(from) < count(to) + 2 || calls.len() == TRANSFERS_AT_ONCE {
            continue;
        }
        let target = group.voters().find(|m| m.slot == Some(to)).map_or(0, |m| m.node_id);
        let call = s.seat(from).and_then(|seat| {
            s.call(seat, |fence| {
                Call::TransferLeadership(v1::TransferLeadershipRequest {
                    group_id: group.id,
                    to: target,
                    version: leader.version,
                    fence: Some(fence),
                })
            })
        });
        if let Some(call) = call {
            calls.push(call);
            *led.entry(from).or_default() -= 1;
            *led.entry(to).or_default() += 1;
        }
    }
    calls
}

"""Wire S's administration: groups are formed and changed by the calls that the operator makes."""

import os
import signal
import time

import grpc

from answers import Refused
from report import eventually, expect

# Groups 1 and 2 are on all nodes, 3 on two of them, 4 is for changes.
EVERYWHERE, ON_TWO, CHANGING = (1, 2), 3, 4
# No group has this id.
NOWHERE = 9


def _core(cluster):
    return cluster.wire.core("node")


def call(cluster, node, method, **fields):
    request = getattr(_core(cluster), f"{method}Request")(**fields)
    return cluster.call("Node", method, request, node=node)


def refused(cluster, method, code, words="", **fields):
    request = getattr(_core(cluster), f"{method}Request")(**fields)
    cluster.begin("Node", method, request, node=0).refused(code, words)


def _member(cluster, node, member_id):
    info = call(cluster, node, "GetInfo")
    host, port = info.peer_address.rsplit(":", 1)
    config = cluster.wire.core("config")
    return config.MemberConfig(node_id=info.node_id, host=host, port=int(port), member_id=member_id)


def _members(cluster, nodes):
    return [_member(cluster, node, node + 1) for node in nodes]


def _group(cluster, node, group):
    states = call(cluster, node, "GetInfo").groups
    return next((state for state in states if state.group_id == group), None)


def leader_of(cluster, group, nodes=(0, 1, 2)):
    """Position of the node that leads a group, once its nodes agree on one."""
    found = []

    def agreed():
        ids = [call(cluster, node, "GetInfo").node_id for node in range(len(cluster.endpoints))]
        states = [_group(cluster, node, group) for node in nodes]
        leaders = {state.leader if state else 0 for state in states}
        found[:] = [ids.index(leader) for leader in leaders if leader in ids]
        return len(leaders) == 1 and len(found) == 1

    eventually(f"leader of group {group}", agreed)
    return found[0]


def nobody_is_served_before_groups_are_formed(cluster):
    for node in range(len(cluster.endpoints)):
        request = cluster.wire.core("partition").OpenSessionRequest()
        request.headers.partition_id = 1
        opening = cluster.begin("Partition", "OpenSession", request, node=node)
        opening.refused("UNAVAILABLE")


def no_stream_is_refused_in_haste_before_groups_are_formed(cluster):
    messages, _ = cluster.wire.module("Map")
    streams = {}
    started = time.monotonic()
    for method in ("Events", "Entries"):
        request = getattr(messages, f"{method}Request")()
        cluster.wire.address(request.headers, 1, 1, 1)
        request.headers.sequence_num = 1
        streams[method] = cluster.open("Map", method, request)
    for method, stream in streams.items():
        try:
            expect(False, f"{method}: {next(stream)}")
        except grpc.RpcError as error:
            took = time.monotonic() - started
            expect(error.code().name == "UNAVAILABLE", f"{method}: {error.code().name}")
            # Existing clients open it again at once.
            expect(took >= 0.9, f"{method}: refused after {took:.2f} s")


def groups_are_formed_in_both_forms(cluster):
    config = cluster.wire.core("config")
    everybody = range(len(cluster.endpoints))
    first, second = EVERYWHERE
    group = config.GroupConfig(group_id=first, members=_members(cluster, everybody))
    partition = config.PartitionConfig(partition_id=second, members=_members(cluster, everybody))
    for node in everybody:
        for _ in range(2):
            call(cluster, node, "Bootstrap", group=group)
            call(cluster, node, "Bootstrap", partitions=[partition])
    for number in (ON_TWO, CHANGING):
        group = config.GroupConfig(group_id=number, members=_members(cluster, [0, 1]))
        for node in (0, 1):
            call(cluster, node, "Bootstrap", group=group)
    for node in everybody:
        call(cluster, node, "Activate")
    for number in EVERYWHERE:
        leader_of(cluster, number)
    for number in (ON_TWO, CHANGING):
        leader_of(cluster, number, [0, 1])


def bootstrap_refuses_what_it_does_not_understand(cluster):
    config = cluster.wire.core("config")
    group = config.GroupConfig(group_id=1)
    partition = config.PartitionConfig(partition_id=1)
    refused(cluster, "Bootstrap", "INVALID_ARGUMENT", "group or partitions")
    refused(cluster, "Bootstrap", "INVALID_ARGUMENT", "both", group=group, partitions=[partition])
    refused(cluster, "Join", "INVALID_ARGUMENT", "group or partition")
    refused(cluster, "Leave", "INVALID_ARGUMENT", "group_id")
    other = config.GroupConfig(group_id=1, members=_members(cluster, [0]))
    refused(cluster, "Bootstrap", "ALREADY_EXISTS", "1", group=other)
    refused(cluster, "DeleteData", "FAILED_PRECONDITION", "1", group_id=1, member_id=1)


def nodes_tell_their_state(cluster):
    info = call(cluster, 0, "GetInfo")
    expect(info.activated, f"not activated: {info}")
    expect(info.version != "", "a node has no version")
    members = call(cluster, 0, "GetConfig", group_id=1).group.members
    expect(sorted(m.member_id for m in members) == [1, 2, 3], f"members {members}")
    refused(cluster, "GetConfig", "NOT_FOUND", str(NOWHERE), group_id=NOWHERE)


def a_member_is_added_promoted_given_the_lead_and_removed(cluster):
    leader, third = leader_of(cluster, CHANGING, [0, 1]), 2
    added = _member(cluster, third, 3)
    _write_snapshots(cluster, leader)
    change = call(cluster, leader, "AddMember", group_id=CHANGING, member=added)
    expect(len(change.group.members) == 3, f"AddMember answers {change}")
    config = cluster.wire.core("config")
    group = config.GroupConfig(
        group_id=CHANGING, members=[added, _member(cluster, leader, leader + 1)]
    )
    call(cluster, third, "Join", group=group, auto_promote=False)
    _is_sent_a_snapshot(cluster, leader, third)
    eventually("promotion", lambda: _taken(cluster, leader, "PromoteMember", CHANGING, 3))
    info = call(cluster, third, "GetInfo")
    lead = {"group_id": CHANGING, "to": info.node_id}
    eventually("transfer", lambda: _transfer(cluster, leader, lead).leader == info.node_id)
    leader_of(cluster, CHANGING)
    back = call(cluster, third, "TransferLeadership", group_id=CHANGING)
    expect(back.leader != info.node_id, f"TransferLeadership answers {back}")
    leader = leader_of(cluster, CHANGING)
    eventually("removal", lambda: _taken(cluster, leader, "RemoveMember", CHANGING, 3))
    eventually("the member's end", lambda: _group(cluster, third, CHANGING) is None)
    for _ in range(2):
        call(cluster, third, "DeleteData", group_id=CHANGING, member_id=3)


def _write_snapshots(cluster, leader):
    """Writes more than nodes keep in a log."""
    session = cluster.session(partition=CHANGING, node=leader)
    value = session.create("Value", "large")
    for _ in range(20):
        value("Set", value=bytes(256 << 10)).ok()
    session.close()


def _is_sent_a_snapshot(cluster, leader, node):
    """A member that was away for longer than the log reaches back."""
    watches = cluster.watches
    watches.partition(node, CHANGING)
    watches.wait("Partition", node, "membership_changed", partition=CHANGING)
    recovered = _group(cluster, node, CHANGING).snapshot_index
    os.kill(cluster.processes[node], signal.SIGSTOP)
    try:
        _write_snapshots(cluster, leader)
    finally:
        os.kill(cluster.processes[node], signal.SIGCONT)
    newer = lambda event: event.index > recovered
    watches.wait("Partition", node, "snapshot_received", newer, partition=CHANGING)
    watches.wait("Partition", node, "snapshot_recovered", newer, partition=CHANGING)
    for kind in ("send_snapshot_started", "send_snapshot_completed"):
        watches.wait("Partition", leader, kind, newer, partition=CHANGING)
    _is_compacted(cluster, leader)


def _is_compacted(cluster, node):
    """Old rounds leave the disk once they are many, and how many there are depends on when snapshots were
    taken: a slow disk takes fewer of them."""

    def told():
        if cluster.watches.has_told("Partition", node, "logdb_compacted", partition=CHANGING):
            return True
        _write_snapshots(cluster, node)
        return False

    eventually(f"logdb_compacted in Partition.Watch of node {node}", told, within=60)


def _taken(cluster, node, method, group, member):
    try:
        call(cluster, node, method, group_id=group, member_id=member)
    except Refused as refusal:
        expect(refusal.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), str(refusal))
        return False
    return True


def _transfer(cluster, node, lead):
    try:
        return call(cluster, node, "TransferLeadership", **lead)
    except Refused as refusal:
        expect(refusal.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), str(refusal))
        return _core(cluster).TransferLeadershipResponse()


def a_node_joins_and_leaves_by_itself(cluster):
    joining = _member(cluster, 2, 4)
    config = cluster.wire.core("config")
    group = config.GroupConfig(
        group_id=CHANGING, members=[joining, *_members(cluster, [0, 1])]
    )
    call(cluster, 2, "Join", group=group)
    voter = config.MemberRole.Value("MEMBER")

    def promoted():
        members = call(cluster, 0, "GetConfig", group_id=CHANGING).group.members
        return any(m.member_id == 4 and m.role == voter for m in members)

    eventually("promotion", promoted)
    eventually("the member's end", lambda: _left(cluster))


def _left(cluster):
    try:
        call(cluster, 2, "Leave", group_id=CHANGING)
    except Refused as refusal:
        expect(refusal.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), str(refusal))
    return _group(cluster, 2, CHANGING) is None


def a_draining_node_leads_nothing(cluster):
    leader = leader_of(cluster, 1)
    eventually("no led group", lambda: not call(cluster, leader, "Drain", drain=True).led_groups)
    call(cluster, leader, "Drain", drain=False)
    expect(leader_of(cluster, 1) != leader, "the drained node leads")


def disruption_is_told_of(cluster):
    leader = leader_of(cluster, 1)

    def harmless():
        answer = call(cluster, leader, "CheckDisruption")
        return answer.checked_groups > 0 and not answer.groups

    eventually("harmless disruption", harmless)


def a_recovery_by_force_wants_a_fence(cluster):
    refused(cluster, "ForceRecover", "INVALID_ARGUMENT", "group_id")
    refused(cluster, "ForceRecover", "INVALID_ARGUMENT", "fence", group_id=1, member_id=1, recovery=1)


# In their order.
CHECKS = (
    bootstrap_refuses_what_it_does_not_understand,
    nodes_tell_their_state,
    a_member_is_added_promoted_given_the_lead_and_removed,
    a_node_joins_and_leaves_by_itself,
    a_draining_node_leads_nothing,
    disruption_is_told_of,
    a_recovery_by_force_wants_a_fence,
)

"""Wire S's administration: groups are formed and changed by the calls that the operator makes."""

from report import eventually, expect
from wire import Refused

# Groups 1 and 2 are on all nodes, 3 on two of them, 4 is for changes.
EVERYWHERE, ON_TWO, CHANGING = (1, 2), 3, 4
# No group has this id.
NOWHERE = 9


def _core(cluster):
    return cluster.wire.core("node")


def _call(cluster, node, method, **fields):
    request = getattr(_core(cluster), f"{method}Request")(**fields)
    return cluster.call("Node", method, request, node=node)


def _refused(cluster, method, code, words="", **fields):
    request = getattr(_core(cluster), f"{method}Request")(**fields)
    cluster.begin("Node", method, request, node=0).refused(code, words)


def _member(cluster, node, member_id):
    info = _call(cluster, node, "GetInfo")
    host, port = info.peer_address.rsplit(":", 1)
    config = cluster.wire.core("config")
    return config.MemberConfig(node_id=info.node_id, host=host, port=int(port), member_id=member_id)


def _members(cluster, nodes):
    return [_member(cluster, node, node + 1) for node in nodes]


def _group(cluster, node, group):
    states = _call(cluster, node, "GetInfo").groups
    return next((state for state in states if state.group_id == group), None)


def _leader(cluster, group, nodes=(0, 1, 2)):
    """Position of the node that leads a group, once its nodes agree on one."""
    found = []

    def agreed():
        ids = [_call(cluster, node, "GetInfo").node_id for node in range(len(cluster.endpoints))]
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


def groups_are_formed_in_both_forms(cluster):
    config = cluster.wire.core("config")
    everybody = range(len(cluster.endpoints))
    first, second = EVERYWHERE
    group = config.GroupConfig(group_id=first, members=_members(cluster, everybody))
    partition = config.PartitionConfig(partition_id=second, members=_members(cluster, everybody))
    for node in everybody:
        for _ in range(2):
            _call(cluster, node, "Bootstrap", group=group)
            _call(cluster, node, "Bootstrap", partitions=[partition])
    for number in (ON_TWO, CHANGING):
        group = config.GroupConfig(group_id=number, members=_members(cluster, [0, 1]))
        for node in (0, 1):
            _call(cluster, node, "Bootstrap", group=group)
    for node in everybody:
        _call(cluster, node, "Activate")
    for number in EVERYWHERE:
        _leader(cluster, number)
    for number in (ON_TWO, CHANGING):
        _leader(cluster, number, [0, 1])


def bootstrap_refuses_what_it_does_not_understand(cluster):
    config = cluster.wire.core("config")
    group = config.GroupConfig(group_id=1)
    partition = config.PartitionConfig(partition_id=1)
    _refused(cluster, "Bootstrap", "INVALID_ARGUMENT", "group or partitions")
    _refused(cluster, "Bootstrap", "INVALID_ARGUMENT", "both", group=group, partitions=[partition])
    _refused(cluster, "Join", "INVALID_ARGUMENT", "group or partition")
    _refused(cluster, "Leave", "INVALID_ARGUMENT", "group_id")
    other = config.GroupConfig(group_id=1, members=_members(cluster, [0]))
    _refused(cluster, "Bootstrap", "ALREADY_EXISTS", "1", group=other)


def nodes_tell_their_state(cluster):
    info = _call(cluster, 0, "GetInfo")
    expect(info.activated, f"not activated: {info}")
    expect(info.version != "", "a node has no version")
    members = _call(cluster, 0, "GetConfig", group_id=1).group.members
    expect(sorted(m.member_id for m in members) == [1, 2, 3], f"members {members}")
    _refused(cluster, "GetConfig", "NOT_FOUND", str(NOWHERE), group_id=NOWHERE)


def a_member_is_added_promoted_given_the_lead_and_removed(cluster):
    leader, third = _leader(cluster, CHANGING, [0, 1]), 2
    added = _member(cluster, third, 3)
    change = _call(cluster, leader, "AddMember", group_id=CHANGING, member=added)
    expect(len(change.group.members) == 3, f"AddMember answers {change}")
    config = cluster.wire.core("config")
    group = config.GroupConfig(
        group_id=CHANGING, members=[added, _member(cluster, leader, leader + 1)]
    )
    _call(cluster, third, "Join", group=group, auto_promote=False)
    eventually("promotion", lambda: _taken(cluster, leader, "PromoteMember", CHANGING, 3))
    info = _call(cluster, third, "GetInfo")
    lead = {"group_id": CHANGING, "to": info.node_id}
    eventually("transfer", lambda: _transfer(cluster, leader, lead).leader == info.node_id)
    _leader(cluster, CHANGING)
    back = _call(cluster, third, "TransferLeadership", group_id=CHANGING)
    expect(back.leader != info.node_id, f"TransferLeadership answers {back}")
    leader = _leader(cluster, CHANGING)
    eventually("removal", lambda: _taken(cluster, leader, "RemoveMember", CHANGING, 3))
    eventually("the member's end", lambda: _group(cluster, third, CHANGING) is None)
    for _ in range(2):
        _call(cluster, third, "DeleteData", group_id=CHANGING, member_id=3)


def _taken(cluster, node, method, group, member):
    try:
        _call(cluster, node, method, group_id=group, member_id=member)
    except Refused as refusal:
        expect(refusal.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), str(refusal))
        return False
    return True


def _transfer(cluster, node, lead):
    try:
        return _call(cluster, node, "TransferLeadership", **lead)
    except Refused as refusal:
        expect(refusal.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), str(refusal))
        return _core(cluster).TransferLeadershipResponse()


def a_node_joins_and_leaves_by_itself(cluster):
    joining = _member(cluster, 2, 4)
    config = cluster.wire.core("config")
    group = config.GroupConfig(
        group_id=CHANGING, members=[joining, *_members(cluster, [0, 1])]
    )
    _call(cluster, 2, "Join", group=group)
    voter = config.MemberRole.Value("MEMBER")

    def promoted():
        members = _call(cluster, 0, "GetConfig", group_id=CHANGING).group.members
        return any(m.member_id == 4 and m.role == voter for m in members)

    eventually("promotion", promoted)
    eventually("the member's end", lambda: _left(cluster))


def _left(cluster):
    try:
        _call(cluster, 2, "Leave", group_id=CHANGING)
    except Refused as refusal:
        expect(refusal.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), str(refusal))
    return _group(cluster, 2, CHANGING) is None


def a_draining_node_leads_nothing(cluster):
    leader = _leader(cluster, 1)
    eventually("no led group", lambda: not _call(cluster, leader, "Drain", drain=True).led_groups)
    _call(cluster, leader, "Drain", drain=False)
    expect(_leader(cluster, 1) != leader, "the drained node leads")


def disruption_is_told_of(cluster):
    leader = _leader(cluster, 1)

    def harmless():
        answer = _call(cluster, leader, "CheckDisruption")
        return answer.checked_groups > 0 and not answer.groups

    eventually("harmless disruption", harmless)


def a_recovery_by_force_wants_a_fence(cluster):
    _refused(cluster, "ForceRecover", "INVALID_ARGUMENT", "group_id")
    _refused(cluster, "ForceRecover", "INVALID_ARGUMENT", "fence", group_id=1, member_id=1, recovery=1)


def calls_that_come_later_say_so(cluster):
    for method in ("ListSessions", "ExpireSession", "ListPrimitives", "DestroyPrimitive"):
        _refused(cluster, method, "UNIMPLEMENTED", "later release")

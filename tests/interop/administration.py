"""Wire S's administration of what is in a group: sessions, primitives and quotas, on any node."""

from answers import Refused
from nodes import NOWHERE, ON_TWO, call, refused
from report import expect

# The last of the nodes has no member of the group.
NODES = (0, 1, 2)
# Namespaces of a group that have one, at most.
QUOTAS = 1024


def sessions_are_listed_and_expired_on_any_node(cluster):
    session = cluster.session(partition=ON_TWO)
    lock = session.create("Lock", "listed")
    for node in NODES:
        answer = call(cluster, node, "ListSessions", group_id=ON_TWO, after=session.id - 1, limit=1)
        (listed,) = answer.sessions
        expect(listed.session_id == session.id, f"ListSessions answers {answer}")
        expect(list(listed.primitives) == [lock.id], f"ListSessions answers {answer}")
        expect(listed.timeout.seconds == 30, f"ListSessions answers {answer}")
    stream = cluster.session(partition=ON_TWO).create("Map", "of a session that lives")
    events = stream.stream("Events").subscribed()
    own = session.create("Map", "of a session that is expired").stream("Events").subscribed()
    # Twice: one that is not open is expired already.
    for node in (2, 0):
        call(cluster, node, "ExpireSession", group_id=ON_TWO, session_id=session.id)
    own.ends()
    lock.begin("Get").refused("DATA_LOSS", str(session.id))
    listed = call(cluster, 2, "ListSessions", group_id=ON_TWO).sessions
    expect(session.id not in [one.session_id for one in listed], f"still there: {listed}")
    stream("Put", key="a", value=b"1").ok()
    events.output()
    events.give_up()


def primitives_are_listed_and_destroyed_on_any_node(cluster):
    session = cluster.session(partition=ON_TWO)
    entries = session.create("Map", "destroyed")
    entries("Put", key="a", value=b"1").ok()
    for node in NODES:
        answer = call(cluster, node, "ListPrimitives", group_id=ON_TWO, after=entries.id - 1, limit=1)
        (listed,) = answer.primitives
        expect(listed.primitive_id == entries.id, f"ListPrimitives answers {answer}")
        expect(listed.spec == cluster.wire.spec("Map", "destroyed" + session.label), f"{answer}")
        expect((listed.sessions, listed.entries) == (1, 1), f"ListPrimitives answers {answer}")
    streams = [entries.stream("Events").subscribed(), entries.stream("Entries", watch=True)]
    streams[1].output()
    for node in (2, 0):
        call(cluster, node, "DestroyPrimitive", group_id=ON_TWO, primitive_id=entries.id)
    for stream in streams:
        stream.ends()
    entries("Get", key="a").answered("FORBIDDEN")
    again = session.create("Map", "destroyed")
    expect(again.id != entries.id, "the primitive is still there")
    again("Get", key="a").answered("NOT_FOUND")


def quotas_are_set_listed_held_and_removed(cluster):
    quota = cluster.wire.core("quota").Quota
    space = "a namespace with a quota"
    limits = quota(namespace=space, primitives=1, bytes=200, sessions=1)
    call(cluster, 2, "SetQuota", group_id=ON_TWO, quota=limits)
    session = cluster.session(partition=ON_TWO)
    entries = session.create("Map", "within a quota", space)
    entries("Put", key="a", value=b"1").ok()
    entries("Put", key="b", value=bytes(200)).answered("INVALID")
    beyond = session.create_answer("Map", "beyond a quota", space).answered("INVALID")
    expect("SetQuota" in beyond.message, beyond.message)
    for node in NODES:
        answer = call(cluster, node, "GetQuotas", group_id=ON_TWO)
        (one,) = answer.quotas
        expect(one.quota == limits, f"GetQuotas answers {answer}")
        expect((one.used.primitives, one.used.sessions) == (1, 1), f"GetQuotas answers {answer}")
    call(cluster, 0, "SetQuota", group_id=ON_TWO, quota=quota(namespace=space))
    expect(not call(cluster, 0, "GetQuotas", group_id=ON_TWO).quotas, "the quota is still there")
    entries("Put", key="b", value=bytes(200)).ok()


def a_limit_is_told_with_its_name(cluster):
    quota = cluster.wire.core("quota").Quota

    def limit(**limits):
        names = [f"one of many: {number}" for number in range(QUOTAS + 1)]
        quotas = [quota(namespace=name, **limits) for name in names]
        request = cluster.wire.core("node").SetQuotaRequest
        requests = [request(group_id=ON_TWO, quota=quota) for quota in quotas]
        return [cluster.begin("Node", "SetQuota", one, node=0) for one in requests]

    refusals = []
    for pending in limit(primitives=1):
        try:
            pending.response()
        except Refused as refusal:
            refusals.append(refusal)
    expect([one.code for one in refusals] == ["RESOURCE_EXHAUSTED"], f"refused: {refusals}")
    expect(str(QUOTAS) in refusals[0].words, f"lacks the limit: {refusals}")
    for pending in limit():
        pending.response()


def administration_refuses_what_it_cannot_do(cluster):
    quota = cluster.wire.core("quota").Quota(namespace="refused", primitives=1)
    for method, fields in (
        ("ListSessions", {}),
        ("ExpireSession", {"session_id": 1}),
        ("ListPrimitives", {}),
        ("DestroyPrimitive", {"primitive_id": 1}),
        ("SetQuota", {"quota": quota}),
        ("GetQuotas", {}),
    ):
        refused(cluster, method, "INVALID_ARGUMENT", "group_id", **fields)
    for method in ("ListSessions", "ListPrimitives", "GetQuotas"):
        refused(cluster, method, "NOT_FOUND", str(NOWHERE), group_id=NOWHERE)
    refused(cluster, "ExpireSession", "INVALID_ARGUMENT", "session_id", group_id=ON_TWO)
    refused(cluster, "DestroyPrimitive", "INVALID_ARGUMENT", "primitive_id", group_id=ON_TWO)
    refused(cluster, "SetQuota", "INVALID_ARGUMENT", "quota", group_id=ON_TWO)

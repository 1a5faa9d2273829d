"""Requests that are refused: which gRPC code each gets, and which outcome."""

from answers import PATIENCE, Pending
from report import expect
from wire import PRIMITIVES

# More than a message may have.
TOO_LARGE = bytes((4 << 20) + 1)


def every_type_can_be_created(cluster):
    session = cluster.session()
    for kind in PRIMITIVES:
        session.create(kind, f"of type {kind}")


def an_unknown_type_is_forbidden(cluster):
    session = cluster.session()
    for kind in ("List", "Topic", "counter", ""):
        answer = session.create_answer(kind, "of an unknown type").answered("FORBIDDEN")
        expect("unknown type" in answer.message, answer.message)


def a_name_is_of_one_type(cluster):
    session = cluster.session()
    session.create("Counter", "of one type")
    session.create_answer("Map", "of one type").answered("FORBIDDEN")


def a_primitive_must_have_a_name(cluster):
    session = cluster.session()
    input = session.wire.core("session").CreatePrimitiveInput(spec=session.wire.spec("Map", ""))
    session.begin_operation("Session", "CreatePrimitive", 0, input).refused("INVALID_ARGUMENT", "name")


def a_primitive_must_be_open_in_the_session(cluster):
    counter = cluster.session().create("Counter", "of one session")
    counter.session = cluster.session()
    counter("Get").answered("FORBIDDEN")
    counter("Increment", delta=1).answered("FORBIDDEN")
    counter.id = 1 << 40
    counter("Increment", delta=1).answered("FORBIDDEN")


def an_operation_of_another_type_is_not_executed(cluster):
    counter = cluster.session().create("Counter", "not a map")
    counter.kind = "Map"
    counter("Put", key="a", value=b"1").answered("NOT_SUPPORTED")


def a_partition_that_no_node_has_is_refused(cluster):
    request = cluster.wire.core("partition").OpenSessionRequest()
    request.headers.partition_id = 99
    # The stock client tries UNAVAILABLE again, and nothing else.
    code = "UNAVAILABLE" if cluster.wire.name == "M" else "NOT_FOUND"
    cluster.begin("Partition", "OpenSession", request, 99).refused(code, "99")
    session = cluster.session()
    counter = session.create("Counter", "in a partition that no node has")
    session.partition = 99
    counter.begin("Increment", delta=1).refused(code, "99")
    counter.begin("Get").refused(code, "99")


def headers_must_name_their_target(cluster):
    messages, _ = cluster.wire.module("Counter")
    for request in (messages.IncrementRequest(), messages.GetRequest()):
        method = request.DESCRIPTOR.name.removesuffix("Request")
        cluster.begin("Counter", method, request).refused("INVALID_ARGUMENT", "headers")
    session = cluster.session()
    counter = session.create("Counter", "headers name their target")
    counter.begin("Increment", number=0, delta=1).refused("INVALID_ARGUMENT", "sequence_num")
    session.id = 0
    counter.begin("Get").refused("INVALID_ARGUMENT", "session_id")
    session.partition = 0
    session.id = 1
    counter.begin("Get").refused("INVALID_ARGUMENT", "partition_id")


def an_absent_input_counts_as_empty(cluster):
    session = cluster.session()
    messages, _ = cluster.wire.module("Counter")
    counter = session.create("Counter", "an absent input")
    request = messages.IncrementRequest()
    cluster.wire.address(request.headers, session.partition, session.id, counter.id)
    request.headers.sequence_num = next(session.numbers)
    expect(not request.HasField("input"), "the input is absent")
    response = cluster.call("Counter", "Increment", request)
    expect(response.output.value == 0, f"{response}")


def a_filter_that_does_not_decode_keeps_nothing_alive(cluster):
    session = cluster.session()
    for filter in ("", "x", '{"m":0,"k":1,"b":"AAAAAAAAAAA="}', '{"m":7,"k":5,"b":"?"}'):
        request = session.keep_alive_request(filter, 1)
        session.begin("KeepAlive", request).refused("INVALID_ARGUMENT")


def a_message_must_decode(cluster):
    path = f"/{cluster.wire.package}.counter.v1.Counter/Get"
    _raw(cluster, path, b"\x0f\x01\x02", "INVALID_ARGUMENT")
    for call in ("Partition/OpenSession", "Partition/KeepAlive", "Session/CreatePrimitive"):
        _raw(cluster, f"/{cluster.wire.package}.v1.{call}", b"\x0f\x01\x02", "INVALID_ARGUMENT")


def a_message_has_four_mebibytes_at_most(cluster):
    _raw(cluster, f"/{cluster.wire.package}.map.v1.Map/Put", TOO_LARGE, "OUT_OF_RANGE")
    _raw(cluster, f"/{cluster.wire.package}.v1.Partition/KeepAlive", TOO_LARGE, "OUT_OF_RANGE")


def an_unknown_call_is_unimplemented(cluster):
    for path in ("list.v1.List/Get", "counter.v1.Counter/Nothing", "v1.Partition/Nothing"):
        _raw(cluster, f"/{cluster.wire.package}.{path}", b"", "UNIMPLEMENTED")


def _raw(cluster, path, message, code):
    call = cluster.channel(0, 1).unary_unary(path)
    Pending(cluster.wire, path, call.future(message, timeout=PATIENCE)).refused(code)


def a_deadline_is_kept(cluster):
    holder, other = (cluster.session().create("Lock", "a deadline") for _ in range(2))
    holder("Acquire").ok()
    other.begin("Acquire", options={"timeout": 0.5}).refused("DEADLINE_EXCEEDED")


def large_values_pass_through(cluster):
    entries = cluster.session().create("Map", "large values")
    large = bytes(range(256)) * 2048
    version = entries("Put", key="a", value=large).ok().index
    expect(entries("Get", key="a").ok().output.value.value == large, "the value changed")
    expect(entries("Get", key="a").ok().output.value.index == version, "the version changed")
    entries("Put", key="a", value=large + b"x").answered("INVALID")

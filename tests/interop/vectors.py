"""Requests and responses as Python writes them, for a test of the node's codec (node/service).

    vectors.py > vectors.txt      writes them anew, with the Python that scripts/setup.sh installs
"""

import pathlib

import stubs
from report import expect

STORED = pathlib.Path(__file__).with_name("vectors.txt")
FILTER = b'{"m":25,"k":5,"b":"AAAAAAAAABkAAAAAAQh5Pw=="}'
PARTITION, SESSION, PRIMITIVE, NUMBER = 3, 4, 5, 9


def the_stored_bytes_are_what_python_writes(wires):
    stored = STORED.read_text().splitlines()
    expect(stored == list(lines(wires)), "vectors.txt differs: see vectors.py")


def lines(wires):
    yield "# Wire, what it is, its bytes. Written by vectors.py; read by a test of node/service."
    for wire in wires.values():
        for name, message in [*_requests(wire), *_responses(wire)]:
            yield f"{wire.name} {name} {message.SerializeToString(deterministic=True).hex()}"


def _requests(wire):
    session, partition = wire.core("session"), wire.core("partition")
    for kind, method, input in (
        ("Counter", "Set", {"value": -7}),
        ("Map", "Put", {"key": "k", "value": b"\0\xff", "prev_index": 300}),
        ("Map", "Get", {"key": "k"}),
    ):
        messages, _ = wire.module(kind)
        request = getattr(messages, f"{method}Request")()
        wire.address(request.headers, PARTITION, SESSION, PRIMITIVE)
        request.headers.sequence_num = NUMBER
        request.input.CopyFrom(getattr(messages, f"{method}Input")(**input))
        if method == "Get":
            request.headers.max_received_index = 77
        if method == "Put":
            request.input.ttl.FromMilliseconds(1500)
        yield f"request:{kind}/{method}", request
    create = session.CreatePrimitiveRequest()
    create.input.spec.CopyFrom(wire.spec("MultiMap", "orders", "space"))
    close = session.ClosePrimitiveRequest()
    close.input.primitive_id = PRIMITIVE
    for name, request in (("CreatePrimitive", create), ("ClosePrimitive", close)):
        wire.address(request.headers, PARTITION, SESSION, 0)
        request.headers.sequence_num = NUMBER
        yield f"request:{name}", request
    request = partition.OpenSessionRequest()
    request.headers.partition_id = PARTITION
    request.input.timeout.FromSeconds(60)
    yield "request:OpenSession", request
    request = partition.KeepAliveRequest()
    request.headers.partition_id = PARTITION
    request.input.session_id = SESSION
    filter, last, received = wire.keep_alive
    setattr(request.input, filter, FILTER)
    setattr(request.input, last, 11)
    getattr(request.input, received).update({5: 2, 300: 7})
    yield "request:KeepAlive", request
    request = partition.CloseSessionRequest()
    request.headers.partition_id = PARTITION
    request.input.session_id = SESSION
    yield "request:CloseSession", request


def _responses(wire):
    session, partition = wire.core("session"), wire.core("partition")
    for name, kind, method, status, number, output in (
        ("ok", "Counter", "Set", "OK", 1, {"value": -7}),
        ("conflict", "Counter", "Update", "CONFLICT", 1, None),
        ("query", "Counter", "Get", "OK", None, {"value": 300}),
        ("empty", "MultiMap", "Get", "OK", None, {}),
        ("missing", "Map", "Get", "NOT_FOUND", None, None),
    ):
        messages, _ = wire.module(kind)
        response = getattr(messages, f"{method}Response")()
        _answer(wire, response, status, number)
        if output is not None:
            response.output.CopyFrom(getattr(messages, f"{method}Output")(**output))
        yield f"response:{name}", response
    response = session.CreatePrimitiveResponse()
    _answer(wire, response, "OK", 0)
    response.output.primitive_id = 12
    yield "response:created", response
    response = session.CreatePrimitiveResponse()
    _answer(wire, response, "FORBIDDEN", 0)
    yield "response:forbidden", response
    response = session.ClosePrimitiveResponse()
    _answer(wire, response, "OK", 0)
    response.output.SetInParent()
    yield "response:closed", response
    for name, kind in (("opened", "OpenSession"), ("kept", "KeepAlive"), ("ended", "CloseSession")):
        response = getattr(partition, f"{kind}Response")()
        response.headers.index = 300
        response.output.SetInParent()
        if kind == "OpenSession":
            response.output.session_id = 300
        yield f"response:{name}", response


def _answer(wire, response, status, number):
    operation = response.headers.operation
    getattr(operation.session, wire.session).partition.index = 12
    operation.status = wire.status_number(status)
    operation.message = "" if status == "OK" else "why"
    if number is not None:
        response.headers.output_sequence_num = number


if __name__ == "__main__":
    stubs.generate()
    from wire import wires as all_wires

    print("\n".join(lines(all_wires())))

"""What concerns both wires at once."""

from report import expect


def one_state_is_behind_both_wires(ours, theirs):
    """A session of one wire sees what the other wrote, and its sessions are of both."""
    counters = []
    for cluster in (ours, theirs):
        session = cluster.session(partition=1)
        session.label = ""
        counters.append(session.create("Counter", "behind both wires"))
    first, second = counters
    expect(first.id == second.id, f"two primitives: {first.id} and {second.id}")
    first("Increment", delta=1).ok(value=1)
    second("Increment", delta=1).ok(value=2)
    first("Get").ok(value=2)
    # A number is taken by either wire.
    again = first("Increment", number=100, delta=1).ok(value=3)
    second.session.id = first.session.id
    expect(second("Increment", number=100, delta=1).ok(value=3).index == again.index, "executed twice")
    second.session.close()
    first.begin("Get").refused("DATA_LOSS")


def an_exact_set_may_stand_for_a_filter(ours):
    """Only on our wire: its clients need no filter."""
    session = ours.session()
    counter = session.create("Counter", "an exact set")
    first, _ = (counter("Increment", number=number, delta=1).ok() for number in (5, 6))
    request = session.keep_alive_request("", 6)
    request.input.open_sequence_nums.append(5)
    request.input.exact = True
    session.call("KeepAlive", request)
    again = counter("Increment", number=5, delta=1)
    expect(again.response == first.response, f"{again.response} is not {first.response}")
    counter.begin("Increment", number=6, delta=1).refused("ABORTED")


# What an operation can end with; others exist for clients.
OUTCOMES = set("OK NOT_FOUND ALREADY_EXISTS FORBIDDEN CONFLICT INVALID NOT_SUPPORTED".split())

# What a node can be made to say here. The others mean a defect (INTERNAL), callers that are not
# told apart yet, or a limit that is too far away.
CODES = {
    "M": set(
        "CANCELLED INVALID_ARGUMENT DEADLINE_EXCEEDED ABORTED OUT_OF_RANGE UNIMPLEMENTED UNAVAILABLE "
        "DATA_LOSS".split()
    ),
}
CODES["S"] = CODES["M"] | {"NOT_FOUND", "ALREADY_EXISTS"}


def every_outcome_and_code_was_seen(clusters):
    """And no other one: clients of wire M know those of the list."""
    for cluster in clusters:
        wire = cluster.wire
        expect(wire.outcomes == OUTCOMES, f"{wire}: outcomes {sorted(wire.outcomes ^ OUTCOMES)}")
        # Waiting for members to change meets these.
        seen = wire.codes - ({"FAILED_PRECONDITION"} if wire.name == "S" else set())
        expect(seen == CODES[wire.name], f"{wire}: codes {sorted(seen ^ CODES[wire.name])}")


def every_unary_call_was_made(clusters):
    """Every method of the contract that is no stream was called on its wire."""
    missing = []
    for cluster in clusters:
        for path, streaming in cluster.wire.methods():
            if streaming:
                print(f"pending {cluster.wire}: {path} is a stream")
            elif path not in cluster.wire.called:
                missing.append(path)
    expect(not missing, f"never called: {', '.join(missing)}")

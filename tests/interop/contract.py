"""What concerns both wires at once."""

import streams
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


def an_exact_set_ends_the_streams_that_it_does_not_hold(ours):
    def keep_alive(session):
        request = session.keep_alive_request("", 15)
        request.input.open_sequence_nums.extend([5, 7, 9, 11])
        request.input.exact = True
        session.call("KeepAlive", request)

    streams.released(ours, "streams end by an exact set", keep_alive)


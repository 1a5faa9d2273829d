"""Sessions: what takes effect once, what is answered again, and how calls end."""

import time

from report import eventually, expect
from wire import seconds

# Filters as the stock client writes them, and what they hold.
FILTERS = {
    '{"m":1,"k":9223372036854775808,"b":"AAAAAAAAAAA="}': [],
    '{"m":7,"k":5,"b":"AAAAAAAAAAcAAAAAAAAAFQ=="}': [1],
    '{"m":13,"k":5,"b":"AAAAAAAAAA0AAAAAAAAZFA=="}': [1, 2],
    '{"m":19,"k":5,"b":"AAAAAAAAABMAAAAAAAYgtQ=="}': [1, 2, 3],
    '{"m":25,"k":5,"b":"AAAAAAAAABkAAAAAAQh5Pw=="}': [5, 7, 9, 11],
    '{"m":63,"k":5,"b":"AAAAAAAAAD9Wo9Km_1XHSQ=="}': list(range(1, 11)),
    '{"m":125,"k":5,"b":"AAAAAAAAAH3JS8tvdHOYfx2J0nT5oHkG"}': list(range(100, 120)),
}
NONE, TWO, ODD = (
    next(filter for filter, held in FILTERS.items() if held == wanted)
    for wanted in ([], [1, 2], [5, 7, 9, 11])
)


def a_command_that_is_repeated_takes_effect_once(cluster):
    session = cluster.session()
    counter = session.create("Counter", "a repeated command")
    first = counter("Increment", number=7, delta=5).ok(value=5)
    counter("Increment", number=9, delta=1).ok(value=6)
    for node in range(len(cluster.endpoints)):
        # As after a reconnect: another connection, to each of the nodes.
        with cluster.connect(node, session.partition) as channel:
            again = counter("Increment", number=7, delta=5, options={"channel": channel})
        expect(again.response == first.response, f"{again.response} is not {first.response}")
    counter("Get").ok(value=6)


def a_failure_is_repeated_too(cluster):
    counter = cluster.session().create("Counter", "a repeated failure")
    first = counter("Update", number=7, compare=1, update=2).answered("CONFLICT")
    counter("Set", value=1).ok()
    again = counter("Update", number=7, compare=1, update=2)
    expect(again.response == first.response, f"{again.response} is not {first.response}")


def a_primitive_is_created_once(cluster):
    session = cluster.session()
    first = session.create_answer("Counter", "a primitive is created once", number=3).ok()
    again = session.create_answer("Counter", "a primitive is created once", number=3).ok()
    expect(again.response == first.response, f"{again.response} is not {first.response}")
    expect(first.output.primitive_id == first.index, f"its id is an index: {first.response}")
    other = cluster.session().create("Counter", "a primitive is created once")
    expect(other.id == first.output.primitive_id, "one name is two primitives")
    apart = session.create("Counter", "a primitive is created once", "another namespace")
    expect(apart.id != other.id, "a namespace does not tell primitives apart")


def a_keep_alive_releases_what_its_filter_does_not_hold(cluster):
    for filter, held in FILTERS.items():
        session = cluster.session()
        counter = session.create("Counter", f"released by {held}")
        numbers = range(98, 122) if 100 in held else range(2, 13)
        answers = {n: counter("Increment", number=n, delta=1).ok() for n in numbers}
        session.keep_alive(filter, numbers[-2])
        late = {n: _late(counter, n, answers[n]) for n in numbers}
        kept = {n for n in numbers if late[n] == "repeated"}
        wanted = {n for n in numbers if n in held} | {numbers[-1]}
        expect(kept >= wanted, f"{filter}: {wanted - kept} were released")
        expect(len(kept) < len(numbers) / 2 + len(held), f"{filter}: only {late} were released")
        expect(held != [1] or 8 in kept, f"{filter}: 8 is held, too, by chance")
        expect(held != [] or kept == wanted, f"{filter}: {kept} were kept")
        counter("Get").ok(value=len(numbers))


def _late(counter, number, first):
    """A number that comes again is answered as before, or refused; never executed."""
    pending = counter.begin("Increment", number=number, delta=1)
    if pending.pending.future.exception() is not None:
        pending.refused("ABORTED", str(number))
        return "released"
    answer = pending.answer()
    expect(answer.response == first.response, f"{number}: {answer.response}, not {first.response}")
    return "repeated"


def a_keep_alive_cancels_what_its_filter_does_not_hold(cluster):
    session = cluster.session(node=0)
    lock = session.create("Lock", "cancelled by a keep-alive")
    lock("Acquire", number=4).ok()
    waiting = {n: lock.begin("Acquire", number=n) for n in range(5, 13)}
    waiting[12].waits()
    session.keep_alive(ODD, 11)
    for number in (6, 8, 10):
        waiting[number].refused("CANCELLED")
    for number in (5, 7, 9, 11, 12):
        expect(not waiting[number].pending.future.done(), f"{number} was cancelled")
    lock("Release", number=13).ok()
    # Any of them may have come first: they were sent at once.
    kept = [waiting[number] for number in (5, 7, 9, 11, 12)]
    eventually("holder", lambda: any(one.pending.future.done() for one in kept))
    next(one for one in kept if one.pending.future.done()).answer().ok()
    session.close()


def outputs_may_be_acknowledged(cluster):
    session = cluster.session()
    counter = session.create("Counter", "acknowledged outputs")
    first = counter("Increment", number=2, delta=1).ok()
    session.keep_alive(TWO, 2, {2: 1})
    again = counter("Increment", number=2, delta=1)
    expect(again.response == first.response, f"{again.response} is not {first.response}")


def a_waiting_call_that_comes_again_is_answered_on_the_new_connection(cluster):
    session = cluster.session()
    holder = session.create("Lock", "a waiting call comes again")
    lock = cluster.session().create("Lock", "a waiting call comes again")
    holder("Acquire").ok()
    first = lock.begin("Acquire", number=5)
    first.waits()
    second = lock.begin("Acquire", number=5, options={"node": 1})
    second.waits()
    holder("Release").ok()
    granted = second.answer().ok()
    lock("Get").ok(index=granted.output.index)
    first.pending.future.cancel()


def a_call_that_is_given_up_is_not_granted_later(cluster):
    holder = cluster.session(node=0).create("Lock", "a call is given up")
    lock = cluster.session(node=0).create("Lock", "a call is given up")
    last = cluster.session(node=0).create("Lock", "a call is given up")
    holder("Acquire").ok()
    given_up = lock.begin("Acquire")
    given_up.waits()
    given_up.pending.future.cancel()
    waiting = last.begin("Acquire")
    waiting.waits()
    holder("Release").ok()
    granted = waiting.answer().ok()
    last("Get").ok(index=granted.output.index)


def closing_a_primitive_cancels_what_waits_there(cluster):
    holder = cluster.session(node=0).create("Lock", "a primitive is closed")
    lock = cluster.session(node=0).create("Lock", "a primitive is closed")
    holder("Acquire").ok()
    waiting = lock.begin("Acquire")
    waiting.waits()
    lock.close().ok()
    waiting.refused("CANCELLED")
    lock("Get").answered("FORBIDDEN")
    lock("Release").answered("FORBIDDEN")
    lock.close().answered("FORBIDDEN")
    lock.session.create("Lock", "a primitive is closed")("Get").ok()


def closing_a_session_cancels_what_waits_there(cluster):
    holder = cluster.session(node=0).create("Lock", "a session is closed")
    session = cluster.session(node=0)
    lock = session.create("Lock", "a session is closed")
    holder("Acquire").ok()
    waiting = lock.begin("Acquire")
    waiting.waits()
    session.close()
    waiting.refused("CANCELLED")


def a_session_that_is_gone_says_so_and_only_then(cluster):
    session = cluster.session()
    counter = session.create("Counter", "a session is gone")
    session.keep_alive(NONE, 1)
    session.close()
    gone = str(session.id)
    session.begin("KeepAlive", session.keep_alive_request(NONE, 1)).refused("DATA_LOSS", gone)
    session.begin("CloseSession", session.close_request()).refused("DATA_LOSS", gone)
    counter.begin("Increment", delta=1).refused("DATA_LOSS", gone)
    counter.begin("Get").refused("DATA_LOSS", gone)
    counter.begin("Get", options={"metadata": [("sync", "false")]}).refused("DATA_LOSS", gone)


def a_session_that_is_kept_alive_does_not_expire(cluster):
    session = cluster.session(timeout=2)
    silent = cluster.session(timeout=2)
    counter = session.create("Counter", "a session is kept alive")
    for _ in range(12):
        time.sleep(0.25)
        session.keep_alive(NONE, 1)
    counter("Increment", delta=1).ok(value=1)
    silent.begin("KeepAlive", silent.keep_alive_request(NONE, 0)).refused("DATA_LOSS")


def a_session_is_of_one_partition(cluster):
    session = cluster.session()
    counter = session.create("Counter", "of one partition")
    counter("Set", value=7).ok()
    other = cluster.session(partition=3)
    other.create("Counter", "of one partition")("Get").ok(value=0)
    # Beyond what the other partition ever counted.
    session.partition, session.id = other.partition, 1 << 40
    session.begin("KeepAlive", session.keep_alive_request(NONE, 1)).refused("DATA_LOSS")


def a_session_without_a_timeout_gets_the_usual_one(cluster):
    request = cluster.wire.core("partition").OpenSessionRequest()
    request.headers.partition_id = cluster.partition
    response = cluster.call("Partition", "OpenSession", request)
    expect(response.HasField("headers"), f"no headers in {response}")
    expect(response.output.session_id == response.headers.index, f"its id is an index: {response}")


def a_node_without_a_member_passes_calls_on(cluster):
    for node in range(len(cluster.endpoints)):
        session = cluster.session(partition=3, node=node)
        counter = session.create("Counter", f"passed on by {cluster.wire.name}")
        counter("Increment", delta=1).ok(value=node + 1)
        counter("Get").ok(value=node + 1)
        session.keep_alive(NONE, 2)
        session.close()
        counter.begin("Get").refused("DATA_LOSS")


def every_node_reads_what_was_written(cluster):
    session = cluster.session()
    counter = session.create("Counter", "read everywhere")
    for value in range(1, 11):
        counter("Set", value=value).ok()
        for node in range(len(cluster.endpoints)):
            counter("Get", options={"node": node}).ok(value=value)


def a_local_read_waits_for_what_the_session_saw(cluster):
    session = cluster.session()
    counter = session.create("Counter", "read locally")
    for value in range(1, 11):
        counter("Set", value=value).ok()
        for node in range(len(cluster.endpoints)):
            local = {"node": node, "metadata": [("sync", "false")]}
            counter("Get", options=local).ok(value=value)


def a_local_read_does_not_take_a_new_session_for_a_lost_one(cluster):
    for _ in range(10):
        session = cluster.session()
        session.index = 0
        for node in range(len(cluster.endpoints)):
            local = {"node": node, "metadata": [("sync", "false")]}
            # Not attached to it: the session is known.
            counter = session.wire.module("Counter")[0].GetInput()
            answer = session.begin_operation("Counter", "Get", 1, counter, **local)
            answer.answer().answered("FORBIDDEN")


def sessions_end_with_all_that_they_hold(cluster):
    session = cluster.session()
    first = session.create("Lock", "sessions end")
    second = cluster.session().create("Lock", "sessions end")
    first("Acquire").ok()
    waiting = second.begin("Acquire", timeout=seconds(20))
    waiting.waits()
    session.close()
    waiting.answer().ok()

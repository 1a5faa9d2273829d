"""Streams: what they bring, how they end, and how they go on after a reconnect."""

import time

from report import expect
from sessions import ODD
from wire import seconds

SOON = seconds(0.2)

# Changes of each kind of primitive, and the events that they cause.
EVENTS = {
    "CounterMap": [
        ("Set", {"key": "a", "value": 1}, ("inserted", "a", 1)),
        ("Increment", {"key": "a", "delta": 2}, ("updated", "a", 3, 1)),
        ("Insert", {"key": "b", "value": 5}, ("inserted", "b", 5)),
        ("Remove", {"key": "a", "prev_value": 3}, ("removed", "a", 3)),
        ("Clear", {}, ("removed", "b", 5)),
    ],
    "IndexedMap": [
        ("Append", {"key": "a", "value": b"1"}, ("inserted", "a", b"1")),
        ("Update", {"key": "a", "value": b"2"}, ("updated", "a", b"2", b"1")),
        ("Remove", {"key": "a"}, ("removed", "a", b"2", False)),
        ("Append", {"key": "b", "value": b"3", "ttl": SOON}, ("inserted", "b", b"3")),
        (None, {}, ("removed", "b", b"3", True)),
    ],
    "Map": [
        ("Put", {"key": "a", "value": b"1"}, ("inserted", "a", b"1")),
        ("Put", {"key": "a", "value": b"2"}, ("updated", "a", b"2", b"1")),
        ("Remove", {"key": "a"}, ("removed", "a", b"2", False)),
        ("Insert", {"key": "b", "value": b"3", "ttl": SOON}, ("inserted", "b", b"3")),
        (None, {}, ("removed", "b", b"3", True)),
    ],
    "MultiMap": [
        ("Put", {"key": "a", "value": "x"}, ("added", "a", "x")),
        ("PutAll", {"key": "b", "values": ["y"]}, ("added", "b", "y")),
        ("RemoveAll", {"key": "a", "values": ["x"]}, ("removed", "a", "x")),
        ("Clear", {}, ("removed", "b", "y")),
    ],
    "Set": [
        ("Add", {"element": "x"}, ("added", "", "x")),
        ("Remove", {"element": "x"}, ("removed", "", "x", False)),
        ("Add", {"element": "y", "ttl": SOON}, ("added", "", "y")),
        (None, {}, ("removed", "", "y", True)),
    ],
    "Value": [
        ("Set", {"value": b"1"}, ("created", "", b"1")),
        ("Set", {"value": b"2"}, ("updated", "", b"2", b"1")),
        ("Delete", {}, ("deleted", "", b"2", False)),
        ("Set", {"value": b"3", "ttl": SOON}, ("created", "", b"3")),
        (None, {}, ("deleted", "", b"3", True)),
    ],
}
KEYED = ("CounterMap", "IndexedMap", "Map", "MultiMap")

# What is there, and a change with what watchers are told of it.
ENTRIES = {
    "CounterMap": (
        [("Set", {"key": "a", "value": 1}), ("Set", {"key": "b", "value": 2})],
        [("a", 1), ("b", 2)],
        [("Decrement", {"key": "a", "delta": 3}, ("a", -2))],
    ),
    "IndexedMap": (
        [("Append", {"key": "b", "value": b"1"}), ("Append", {"key": "a", "value": b"2"})],
        [("b", b"1"), ("a", b"2")],
        [
            ("Update", {"key": "a", "value": b"3"}, ("a", b"3")),
            ("Remove", {"key": "b"}, ("b",)),
        ],
    ),
    "Map": (
        [("Put", {"key": "a", "value": b"1"}), ("Put", {"key": "b", "value": b"2"})],
        [("a", b"1"), ("b", b"2")],
        [
            ("Update", {"key": "a", "value": b"3"}, ("a", b"3")),
            ("Remove", {"key": "b"}, ("b",)),
        ],
    ),
    "MultiMap": (
        [("PutAll", {"key": "a", "values": ["x", "y"]}), ("Put", {"key": "b", "value": "z"})],
        [("a", ("x", "y")), ("b", ("z",))],
        [
            ("Remove", {"key": "a", "value": "x"}, ("a", ("y",))),
            ("Remove", {"key": "b", "value": "z"}, ("b", ())),
        ],
    ),
    "Set": (
        [("Add", {"element": "a"}), ("Add", {"element": "b"})],
        [("a",), ("b",)],
        [("Add", {"element": "c"}, ("c",))],
    ),
}


def _change(primitive, method, fields):
    if "element" in fields and primitive.kind == "Set":
        fields = fields | {"element": primitive.messages().Element(value=fields["element"])}
    primitive(method, **fields).ok()


def _content(message):
    """What a message says, without versions and indexes."""
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.name in ("index", "version"):
            continue
        if field.is_repeated:
            yield tuple(value)
        elif field.message_type is None:
            yield value
        elif message.HasField(field.name):
            yield from _content(value)


def _event(stream):
    event = stream.output().event
    kind = event.WhichOneof("event")
    return (kind, getattr(event, "key", ""), *_content(getattr(event, kind)))


def _entry(stream):
    output = stream.output()
    return tuple(_content(getattr(output, "element" if hasattr(output, "element") else "entry")))


def _all(stream, read, wanted):
    for one in wanted:
        seen = read(stream)
        expect(seen == one, f"{stream.method}: {seen}, not {one}")


def events_of_every_kind_come_in_order_on_every_node(cluster):
    for kind, changes in EVENTS.items():
        name = f"events of a {kind}"
        writer = cluster.session().create(kind, name)
        everywhere = range(len(cluster.endpoints))
        listeners = [cluster.session(node=node).create(kind, name) for node in everywhere]
        streams = [listener.stream("Events").subscribed() for listener in listeners]
        if kind in KEYED:
            filtered = cluster.session().create(kind, name)
            listeners.append(filtered)
            streams.append(filtered.stream("Events", key="a").subscribed("a"))
        for method, fields, event in changes:
            if method:
                _change(writer, method, fields)
            # An expiry comes by itself; only then is the next change made.
            _all(streams[0], _event, [event])
        wanted = [event for _, _, event in changes]
        for stream in streams[1:3]:
            _all(stream, _event, wanted)
        for stream in streams[3:]:
            _all(stream, _event, [event for event in wanted if event[1] == "a"])
        for listener, stream in zip(listeners, streams):
            listener.session.close()
            stream.ends()


def a_stream_of_events_has_no_past(cluster):
    entries = cluster.session().create("Map", "events have no past")
    entries("Put", key="a", value=b"1").ok()
    stream = entries.stream("Events").subscribed()
    entries("Put", key="b", value=b"1").ok()
    _all(stream, _event, [("inserted", "b", b"1")])
    stream.give_up()


def entries_of_every_kind_are_listed_and_go_on_with_changes(cluster):
    for kind, (present, wanted, changes) in ENTRIES.items():
        name = f"entries of a {kind}"
        writer = cluster.session().create(kind, name)
        method = "Elements" if kind == "Set" else "Entries"
        empty = writer.stream(method)
        empty.ends()
        for change in present:
            _change(writer, *change)
        for node in range(len(cluster.endpoints)):
            stream = writer.stream(method, options={"node": node})
            _all(stream, _entry, wanted)
            stream.ends()
        sessions = [cluster.session(node=node) for node in range(len(cluster.endpoints))]
        streams = [session.create(kind, name).stream(method, watch=True) for session in sessions]
        for stream in streams:
            _all(stream, _entry, wanted)
        for change, fields, _ in changes:
            _change(writer, change, fields)
        for session, stream in zip(sessions, streams):
            _all(stream, _entry, [told for _, _, told in changes])
            session.close()
            stream.ends()


def an_element_that_is_removed_is_told_as_removed(cluster):
    elements = cluster.session().create("Set", "an element is removed")
    element = elements.messages().Element(value="a")
    elements("Add", element=element).ok()
    stream = elements.stream("Elements", watch=True)
    outputs = [stream.output()]
    elements("Remove", element=element).ok()
    outputs.append(stream.output())
    expect([output.element.value for output in outputs] == ["a", "a"], f"{outputs}")
    # Wire M's clients know no such field: they skip it.
    if hasattr(outputs[0], "removed"):
        expect([output.removed for output in outputs] == [False, True], f"{outputs}")
    stream.give_up()


def watchers_of_an_election_are_told_every_term(cluster):
    name = "an election is watched"
    session = cluster.session()
    election = session.create("LeaderElection", name)
    sessions = [cluster.session(node=node) for node in range(len(cluster.endpoints))]
    early, *late = (one.create("LeaderElection", name) for one in sessions)
    first = early.stream("Watch")
    first.is_silent()
    election("Enter", candidate="a").ok()
    streams = [first, *(one.stream("Watch") for one in late)]
    for stream in streams:
        _terms(stream, [("a", [], 1)])
    election("Enter", candidate="b").ok()
    election("Anoint", candidate="b").ok()
    election("Withdraw", candidate="a").ok()
    session.close()
    for one, stream in zip(sessions, streams):
        _terms(stream, [("a", ["b"], 1), ("b", ["a"], 2), ("b", [], 2), ("", [], 2)])
        one.close()
        stream.ends()


def _terms(stream, wanted):
    for one in wanted:
        term = stream.output().term
        seen = (term.leader, list(term.candidates), term.index)
        expect(seen == one, f"{stream.method}: {seen}, not {one}")


def watchers_of_a_value_are_told_every_value(cluster):
    name = "a value is watched"
    writer = cluster.session().create("Value", name)
    sessions = [cluster.session(node=node) for node in range(len(cluster.endpoints))]
    early, *late = (one.create("Value", name) for one in sessions)
    first = early.stream("Watch")
    first.is_silent()
    writer("Set", value=b"1").ok()
    streams = [first, *(one.stream("Watch") for one in late)]
    for stream in streams:
        _all(stream, _value, [(b"1",)])
    writer("Update", value=b"2").ok()
    writer("Delete").ok()
    writer("Set", value=b"3", ttl=SOON).ok()
    for one, stream in zip(sessions, streams):
        # A value that is gone is none; the last one expires.
        _all(stream, _value, [(b"2",), (), (b"3",), ()])
        one.close()
        stream.ends()


def _value(stream):
    return tuple(_content(stream.output()))


def _open_streams(cluster, name):
    """One of each kind, in a session of their own."""
    session = cluster.session()
    entries = session.create("Map", name)
    value = session.create("Value", f"{name}: a value")
    streams = [
        entries.stream("Events", number=6).subscribed(),
        entries.stream("Entries", number=8, watch=True),
        value.stream("Events", number=10).subscribed(),
        value.stream("Watch", number=12),
    ]
    # Queries are silent until there is something: changed here, so that all have begun.
    entries("Put", number=14, key="a", value=b"1").ok()
    value("Set", number=15, value=b"1").ok()
    for stream in streams:
        stream.output()
    return session, entries, value, streams


def closing_a_session_ends_its_streams(cluster):
    session, _, _, streams = _open_streams(cluster, "streams end with their session")
    session.close()
    for stream in streams:
        stream.ends()


def closing_a_primitive_ends_its_streams_and_no_others(cluster):
    session, entries, value, streams = _open_streams(cluster, "streams end with their primitive")
    entries.close().ok()
    for stream in streams[:2]:
        stream.ends()
    value("Set", value=b"2").ok()
    for stream in streams[2:]:
        stream.output()
        stream.give_up()


def a_keep_alive_ends_the_streams_that_its_filter_does_not_hold(cluster):
    released(cluster, "streams end by a filter", lambda session: session.keep_alive(ODD, 15))


def released(cluster, name, keep_alive):
    """`keep_alive` says that of the numbers up to 15 those of ODD are open."""
    session, entries, value, streams = _open_streams(cluster, name)
    kept = [
        entries.stream("Events", number=5).subscribed(),
        entries.stream("Entries", number=7, watch=True),
        # Above what the client says it has begun.
        value.stream("Watch", number=17),
    ]
    for stream in kept[1:]:
        stream.output()
    keep_alive(session)
    for stream in streams:
        stream.ends()
    entries("Put", number=18, key="b", value=b"1").ok()
    value("Set", number=19, value=b"2").ok()
    for stream in kept:
        stream.output()
    session.close()
    for stream in kept:
        stream.ends()


def _put(entries, keys):
    for key in keys:
        entries("Put", key=key, value=b"1").ok()


def _inserted(keys):
    return [("inserted", key, b"1") for key in keys]


def events_come_again_from_the_first_that_was_not_acknowledged(cluster):
    writer = cluster.session().create("Map", "events come again")
    session = cluster.session()
    entries = session.create("Map", "events come again")
    with cluster.connect(0, session.partition) as channel:
        stream = entries.stream("Events", number=5, options={"channel": channel}).subscribed()
        _put(writer, "abcd")
        _all(stream, _event, _inserted("ab"))
    session.keep_alive(ODD, 5, {5: 3})
    for node, written in ((1, "ef"), (2, "gh")):
        stream = entries.stream("Events", number=5, options={"node": node})
        # The others are forgotten; those that come have kept their numbers.
        stream.last = 3
        _all(stream, _event, _inserted("cd" if node == 1 else "cdef"))
        _put(writer, written)
        _all(stream, _event, _inserted(written))
        if node == 1:
            stream.give_up()
    session.close()
    stream.ends()


def a_stream_that_is_opened_again_replaces_the_first(cluster):
    session = cluster.session(node=0)
    entries = session.create("Map", "a stream is replaced")
    first = entries.stream("Events", number=5).subscribed()
    second = entries.stream("Events", number=5, options={"node": 1}).subscribed()
    entries("Put", number=6, key="a", value=b"1").ok()
    _all(second, _event, [("inserted", "a", b"1")])
    session.close()
    second.ends()
    first.give_up()


def a_stream_of_a_partition_that_no_node_has_is_not_refused_in_haste(cluster):
    session = cluster.session()
    entries = session.create("Map", "a stream of no partition")
    session.partition = 99
    # Existing clients open a stream that ended as UNAVAILABLE again at once.
    code, pause = ("UNAVAILABLE", 0.9) if cluster.wire.name == "M" else ("NOT_FOUND", 0)
    for method in ("Events", "Entries"):
        started = time.monotonic()
        entries.stream(method).refused(code, "99")
        took = time.monotonic() - started
        expect(took >= pause, f"{method}: refused after {took:.2f} s")


def a_stream_of_a_session_that_is_gone_says_so(cluster):
    session = cluster.session()
    entries = session.create("Map", "a stream of a session that is gone")
    session.close()
    for method in ("Events", "Entries"):
        entries.stream(method).refused("DATA_LOSS", str(session.id))


def a_stream_whose_number_was_released_is_not_opened_again(cluster):
    session = cluster.session()
    entries = session.create("Map", "a stream was released")
    stream = entries.stream("Events", number=6).subscribed()
    session.keep_alive(ODD, 6)
    stream.ends()
    entries.stream("Events", number=6).refused("ABORTED", "6")


def a_stream_must_have_a_number_and_a_target(cluster):
    session = cluster.session()
    entries = session.create("Map", "a stream has a target")
    entries.stream("Events", number=0).refused("INVALID_ARGUMENT", "sequence_num")
    session.id = 0
    for method in ("Events", "Entries"):
        entries.stream(method).refused("INVALID_ARGUMENT", "session_id")


def a_stream_of_a_primitive_that_is_not_open_is_forbidden(cluster):
    entries = cluster.session().create("Map", "a stream of another session")
    entries.session = cluster.session()
    for method in ("Events", "Entries"):
        stream = entries.stream(method)
        stream.answer().answered("FORBIDDEN")
        stream.ends()


def a_stream_of_another_type_is_not_executed(cluster):
    counter = cluster.session().create("Counter", "not a map to listen to")
    counter.kind = "Map"
    for method in ("Events", "Entries"):
        stream = counter.stream(method)
        stream.answer().answered("NOT_SUPPORTED")
        stream.ends()


def the_deadline_of_a_stream_is_kept(cluster):
    entries = cluster.session().create("Map", "a stream has a deadline")
    events = entries.stream("Events", options={"timeout": 1}).subscribed()
    entries.stream("Entries", options={"timeout": 1}, watch=True).refused("DEADLINE_EXCEEDED")
    events.refused("DEADLINE_EXCEEDED")


def a_stream_that_is_given_up_leaves_the_others_alone(cluster):
    session = cluster.session()
    entries = session.create("Map", "a stream is given up")
    given_up, other = (entries.stream("Events").subscribed() for _ in range(2))
    given_up.give_up()
    entries("Put", key="a", value=b"1").ok()
    _all(other, _event, [("inserted", "a", b"1")])
    session.close()
    other.ends()


def streams_reach_a_node_without_a_member(cluster):
    name = f"a stream is passed on to {cluster.wire.name}"
    writer = cluster.session(partition=3).create("Map", name)
    session = cluster.session(partition=3, node=2)
    entries = session.create("Map", name)
    events = entries.stream("Events").subscribed()
    listed = entries.stream("Entries", watch=True)
    _put(writer, "ab")
    _all(events, _event, _inserted("ab"))
    _all(listed, _entry, [("a", b"1"), ("b", b"1")])
    session.close()
    events.ends()
    listed.ends()


def a_local_stream_needs_no_leader(cluster):
    """What the session has seen is in it all the same."""
    session = cluster.session()
    entries = session.create("Map", "a local stream")
    entries("Put", key="a", value=b"1").ok()
    for node in range(len(cluster.endpoints)):
        local = {"node": node, "metadata": [("sync", "false")]}
        stream = entries.stream("Entries", options=local)
        _all(stream, _entry, [("a", b"1")])
        stream.ends()

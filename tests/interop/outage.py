"""What clients see when the leader's process is killed; the last check, for the node stays away."""

import os
import signal

from answers import Refused
from nodes import leader_of
from report import expect
from sessions import ODD

PARTITION = 1
BEFORE, READ, ALL = 10, 5, 40
# Of the events; held by the filter that is sent.
NUMBER = 5


class _Client:
    """One listener on each node, a writer, and a session that waits for a lock, through one wire."""

    def __init__(self, cluster, survivor):
        self.cluster, self.survivor = cluster, survivor
        self.writer = self._create("Map", survivor)
        self.holder, self.waiter = (self._create("Lock", survivor) for _ in range(2))
        self.holder("Acquire").ok()
        self.waiting = self.waiter.begin("Acquire", options={"timeout": 60})
        nodes = range(len(cluster.endpoints))
        self.listeners = [self._create("Map", node) for node in nodes]
        self.streams = [listener.stream("Events", number=NUMBER) for listener in self.listeners]
        for stream in self.streams:
            stream.subscribed()

    def _create(self, kind, node):
        session = self.cluster.session(partition=PARTITION, timeout=60, node=node)
        return session.create(kind, f"an outage of {kind}")

    def write(self, keys):
        for key in keys:
            number = next(self.writer.session.numbers)
            put = lambda: self.writer("Put", number=number, key=str(key), value=b"1").ok()
            _until_available(put)

    def read(self, place, keys):
        stream = self.streams[place]
        for key in keys:
            event = stream.output().event
            seen = (event.WhichOneof("event"), event.key)
            expect(seen == ("inserted", str(key)), f"{stream.method} of node {place}: {seen}, not {key}")

    def move(self, place):
        """What the killed node had sent is acknowledged at another, where the stream goes on."""
        stream, listener = self.streams[place], self.listeners[place]
        received = READ
        try:
            while True:
                self.read(place, [received])
                received += 1
        except Refused as refusal:
            expect(refusal.code in ("UNAVAILABLE", "CANCELLED"), f"{refusal}")
        listener.session.node = self.survivor
        _until_available(lambda: listener.session.keep_alive(ODD, NUMBER, {NUMBER: stream.last}))
        self.streams[place] = listener.stream("Events", number=NUMBER)
        self.streams[place].last = stream.last
        return received


def _until_available(call):
    """Calls until there is a leader again. A session that is said to be gone ends clients."""
    while True:
        try:
            return call()
        except Refused as refusal:
            expect(refusal.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), f"{refusal}")


def events_have_no_gap_and_no_repeat_when_the_leader_is_killed(ours, theirs):
    killed = leader_of(ours, PARTITION)
    survivor = (killed + 1) % len(ours.endpoints)
    clients = [_Client(cluster, survivor) for cluster in (theirs, ours)]
    for client in clients:
        client.write(range(BEFORE))
        for place in range(len(client.streams)):
            client.read(place, range(READ))
    os.kill(ours.processes[killed], signal.SIGKILL)
    for client in clients:
        client.write(range(BEFORE, ALL))
        for place, listener in enumerate(client.listeners):
            first = client.move(place) if place == killed else READ
            client.read(place, range(first, ALL))
            listener.session.close()
            client.streams[place].ends()
        _until_available(lambda: client.holder("Release", number=9).ok())
        client.waiting.answer().ok()
    ours.watches.wait("Node", survivor, "connection_failed")

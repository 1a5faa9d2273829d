"""What nodes tell of themselves: Node.Watch of all nodes, and Partition.Watch of their members, from the
first check to the last."""

import threading

import grpc

from report import eventually, expect

# Of Node.Watch: no changes, they carry the number of the change before them.
UNNUMBERED = ("snapshot", "synced", "heartbeat")
# Longer than the run.
WATCH = 600


class Watches:
    def __init__(self, cluster):
        self.cluster = cluster
        # By service, node and partition (0 = all): what was told.
        self.told = {}

    def node(self, node):
        self._begin("Node", node, 0, self.cluster.wire.core("node").WatchRequest())

    def partition(self, node, partition):
        request = self.cluster.wire.core("partition").WatchPartitionRequest(partition_id=partition)
        self._begin("Partition", node, partition, request)

    def _begin(self, service, node, partition, request):
        events = self.told.setdefault((service, node, partition), [])
        stream = self.cluster.open(service, "Watch", request, node=node, timeout=WATCH)
        threading.Thread(target=_read, args=(stream, events), daemon=True).start()

    def kinds(self, service):
        """Kinds of events that were told by any node."""
        told = [list(events) for key, events in self.told.items() if key[0] == service]
        return {event.WhichOneof("event") for events in told for event in events}

    def wait(self, service, node, kind, holds=lambda event: True, partition=0):
        """Waits until a node has told of this."""
        told = lambda: self.has_told(service, node, kind, holds, partition)
        eventually(f"{kind} in {service}.Watch of node {node}", told)

    def has_told(self, service, node, kind, holds=lambda event: True, partition=0):
        events = list(self.told[service, node, partition])
        return any(holds(getattr(e, kind)) for e in events if e.WhichOneof("event") == kind)


def _read(stream, events):
    try:
        for event in stream:
            events.append(event)
    except grpc.RpcError:
        # The node was killed, or the run is over.
        pass


def a_watch_of_a_node_begins_with_the_present(cluster):
    watches = cluster.watches
    for node in range(len(cluster.endpoints)):
        watches.node(node)
        watches.wait("Node", node, "synced")
        kinds = [event.WhichOneof("event") for event in watches.told["Node", node, 0]]
        expect(kinds[:2] == ["snapshot", "synced"], f"node {node} begins with {kinds}")


def a_watch_of_a_partition_begins_with_the_present(cluster):
    watches = cluster.watches
    config = cluster.wire.core("node").GetConfigRequest
    for partition, nodes in ((1, 3), (2, 3), (3, 2), (4, 2)):
        for node in range(nodes):
            watches.partition(node, partition)
            watches.wait("Partition", node, "member_ready", partition=partition)
            told = watches.told["Partition", node, partition]
            kinds = [event.WhichOneof("event") for event in told[:2]]
            expect(kinds == ["membership_changed", "leader_updated"], f"begins with {kinds}")
            members = cluster.call("Node", "GetConfig", config(group_id=partition), node=node).group.members
            wanted = [member.node_id for member in members]
            seen = list(told[0].membership_changed.members)
            expect(seen == wanted, f"members {seen}, not {wanted}")


def a_watch_of_a_partition_that_is_not_there_is_refused(cluster):
    for partition, code in ((99, "NOT_FOUND"), (0, "INVALID_ARGUMENT")):
        request = cluster.wire.core("partition").WatchPartitionRequest(partition_id=partition)
        stream = cluster.open("Partition", "Watch", request, node=0)
        try:
            expect(False, f"partition {partition}: told {next(stream)}")
        except grpc.RpcError as error:
            cluster.wire.codes.add(error.code().name)
            expect(error.code().name == code, f"partition {partition}: {error.code().name}")


def events_are_numbered_without_gap_and_of_their_partition(cluster):
    for (service, node, partition), told in cluster.watches.told.items():
        where = f"{service}.Watch of node {node}"
        events = list(told)
        for before, event in zip(events, events[1:]) if service == "Node" else ():
            step = 0 if event.WhichOneof("event") in UNNUMBERED else 1
            numbers = (before.sequence, event.sequence)
            expect(numbers[0] + step == numbers[1], f"{where}: {numbers} in\n{before}{event}")
        for event in events if service == "Partition" else ():
            group = getattr(event, event.WhichOneof("event")).group_id
            expect(event.partition_id == group == partition, f"{where}: of another: {event}")

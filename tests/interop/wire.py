"""The two wires as their clients see them: how headers and specs are written, and how sessions and
primitives are called."""

import itertools

import grpc
from google.protobuf.duration_pb2 import Duration

import stubs
from answers import PATIENCE, STREAM, Answer, Pending, PendingAnswer, Stream
from report import expect

# Package and service of every primitive.
PRIMITIVES = {
    "Counter": "counter",
    "CounterMap": "countermap",
    "LeaderElection": "election",
    "IndexedMap": "indexedmap",
    "Lock": "lock",
    "Map": "map",
    "MultiMap": "multimap",
    "Set": "set",
    "Value": "value",
}
# Files of services that are not named after them.
FILES = {"SessionStream": "stream"}


def seconds(count):
    return Duration(seconds=int(count), nanos=int(count % 1 * 1e9))


class Wire:
    """Names that differ between the wires; everything else is the same."""

    def __init__(self, name, package, primitive, session, keep_alive, statuses):
        self.name = name
        self.package = package
        # Field of a request's operation, and of a response's primitive.
        self.primitive, self.session = primitive, session
        # Fields of KeepAliveInput: filter, highest started number, received outputs.
        self.keep_alive = keep_alive
        self.statuses = statuses
        # Paths of the calls that were made; (service, method, outcome in the headers) and gRPC codes
        # that came back.
        self.called, self.outcomes, self.codes = set(), set(), set()

    def core(self, file):
        return stubs.messages(f"{self.package}.v1", file)

    def module(self, service):
        """Messages and clients of a service."""
        if service in PRIMITIVES:
            name = PRIMITIVES[service]
            package, file = f"{self.package}.{name}.v1", name
        else:
            package, file = f"{self.package}.v1", FILES.get(service, service.lower())
        return stubs.messages(package, file), stubs.services(package, file)

    def status(self, number):
        """Name of an outcome."""
        return self._statuses().Name(number)

    def status_number(self, name):
        return self._statuses().Value(name)

    def statuses_named(self):
        """Every outcome that headers have a number for."""
        return self._statuses().keys()

    def codes_named(self):
        """Every gRPC code but OK."""
        return (code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK)

    def _statuses(self):
        return getattr(self.core("headers"), self.statuses).Status

    def methods(self):
        """Every call of the wire."""
        for service in stubs.services_of(self.package):
            yield from (f"{service.full_name}/{method.name}" for method in service.methods)

    def spec(self, kind, name, namespace=""):
        session = self.core("session")
        if self.name == "M":
            return session.PrimitiveSpec(
                type=session.PrimitiveType(name=kind, apiVersion="v1"),
                name=session.PrimitiveName(namespace=namespace, name=name),
            )
        service = f"atomix.runtime.{PRIMITIVES.get(kind, 'none')}.v1.{kind}"
        return session.PrimitiveSpec(service=service, namespace=namespace, name=name)

    def address(self, headers, partition, session, primitive):
        """Fills the target of an operation in."""
        target = getattr(headers.operation, self.primitive)
        target.primitive_id = primitive
        target.session.session_id = session
        target.session.partition.partition_id = partition

    def __str__(self):
        return f"wire {self.name}"


def wires():
    operation, call = "OperationResponseHeaders", "CallResponseHeaders"
    ours = ("pending_commands_filter", "last_command_sequence_num", "output_stream_sequence_nums")
    theirs = ("input_filter", "last_input_sequence_num", "last_output_sequence_nums")
    return {
        "M": Wire("M", "atomix.protocols.rsm", "primitive", "primitive", theirs, call),
        "S": Wire("S", "atomix.multiraft", "session", "session", ours, operation),
    }


class Cluster:
    """The nodes, through one wire. Calls go to each node in turn, as the stock driver's do, and for
    the partition that the wire has to itself."""

    def __init__(self, wire, partition, endpoints, processes):
        self.wire, self.partition = wire, partition
        self.endpoints, self.processes = endpoints, processes
        self._turn = itertools.cycle(range(len(endpoints)))
        self._channels = {}

    def channel(self, node, partition):
        """One connection for each node and partition, which is its `:authority`."""
        key = (node, partition)
        if key not in self._channels:
            self._channels[key] = self.connect(node, partition)
        return self._channels[key]

    def connect(self, node, partition):
        options = [("grpc.default_authority", str(partition)), ("grpc.use_local_subchannel_pool", 1)]
        return grpc.insecure_channel(self.endpoints[node], options)

    def begin(self, service, method, request, partition=1, node=None, channel=None, **options):
        """Starts a call; its end is asked of what is returned."""
        call = self._method(service, method, partition, node, channel)
        options.setdefault("timeout", PATIENCE)
        return Pending(self.wire, f"{self.wire} {service}/{method}", call.future(request, **options))

    def open(self, service, method, request, partition=1, node=None, channel=None, **options):
        """Starts a call that is answered by a stream; returns its responses."""
        call = self._method(service, method, partition, node, channel)
        options.setdefault("timeout", STREAM)
        return call(request, **options)

    def _method(self, service, method, partition, node, channel):
        _, clients = self.wire.module(service)
        if channel is None:
            channel = self.channel(next(self._turn) if node is None else node, partition)
        self.wire.called.add(f"{self.wire.module(service)[0].DESCRIPTOR.package}.{service}/{method}")
        return getattr(getattr(clients, f"{service}Stub")(channel), method)

    def call(self, *arguments, **options):
        return self.begin(*arguments, **options).response()

    def session(self, partition=None, timeout=30, node=None):
        return Session(self, partition or self.partition, timeout, node)


class Session:
    """An open session of a partition. One with a node makes all its calls there, in order."""

    def __init__(self, cluster, partition, timeout, node):
        self.cluster, self.wire, self.partition = cluster, cluster.wire, partition
        self.node = node
        # Each wire has primitives of its own.
        self.label = f" on {self.wire}"
        request = self.wire.core("partition").OpenSessionRequest()
        request.headers.partition_id = partition
        request.input.timeout.CopyFrom(seconds(timeout))
        response = self.call("OpenSession", request)
        self.id = response.output.session_id
        expect(self.id > 0, f"{self.wire} OpenSession: no session in {response}")
        self.numbers = itertools.count(1)
        self.index = self.id

    def call(self, method, request):
        return self.begin(method, request).response()

    def begin(self, method, request):
        return self.cluster.begin("Partition", method, request, self.partition, node=self.node)

    def keep_alive_request(self, filter, last, received=None):
        request = self.wire.core("partition").KeepAliveRequest()
        request.headers.partition_id = self.partition
        request.input.session_id = self.id
        filter_field, last_field, received_field = self.wire.keep_alive
        setattr(request.input, filter_field, filter.encode())
        setattr(request.input, last_field, last)
        getattr(request.input, received_field).update(received or {})
        return request

    def keep_alive(self, filter, last, received=None):
        response = self.call("KeepAlive", self.keep_alive_request(filter, last, received))
        expect(response.HasField("output"), "KeepAlive: the response has no output")
        expect(response.headers.index > self.id, f"KeepAlive: index {response.headers.index}")

    def close_request(self):
        request = self.wire.core("partition").CloseSessionRequest()
        request.headers.partition_id = self.partition
        request.input.session_id = self.id
        return request

    def close(self):
        response = self.call("CloseSession", self.close_request())
        expect(response.HasField("output"), "CloseSession: the response has no output")

    def create(self, kind, name, namespace=""):
        """Creates a primitive, or attaches to it."""
        answer = self.create_answer(kind, name, namespace).ok()
        return Primitive(self, kind, answer.output.primitive_id)

    def create_answer(self, kind, name, namespace="", number=None):
        input = self.wire.core("session").CreatePrimitiveInput(
            spec=self.wire.spec(kind, name + self.label, namespace)
        )
        return self.operation("Session", "CreatePrimitive", 0, input, number=number)

    def operation(self, *arguments, **options):
        return self.begin_operation(*arguments, **options).answer()

    def begin_operation(self, service, method, primitive, input, number=None, **options):
        request = self.operation_request(service, method, primitive, input, number)
        options.setdefault("node", self.node)
        pending = self.cluster.begin(service, method, request, self.partition, **options)
        return PendingAnswer(self, pending, request.headers.sequence_num)

    def operation_request(self, service, method, primitive, input, number):
        messages, _ = self.wire.module(service)
        request = getattr(messages, f"{method}Request")()
        request.input.CopyFrom(input)
        self.wire.address(request.headers, self.partition, self.id, primitive)
        request.headers.sequence_num = next(self.numbers) if number is None else number
        if hasattr(request.headers, "max_received_index"):
            request.headers.max_received_index = self.index
        return request


class Primitive:
    """A primitive that a session is attached to; called as primitive("Put", key="k")."""

    def __init__(self, session, kind, id):
        self.session, self.kind, self.id = session, kind, id

    def __call__(self, method, number=None, options=None, **input):
        return self.begin(method, number, options, **input).answer()

    def begin(self, method, number=None, options=None, **input):
        messages, _ = self.session.wire.module(self.kind)
        message = getattr(messages, f"{method}Input")(**input)
        return self.session.begin_operation(
            self.kind, method, self.id, message, number=number, **(options or {})
        )

    def stream(self, method, number=None, options=None, **input):
        """Opens a stream, on the session's node unless another is named."""
        session = self.session
        message = getattr(self.messages(), f"{method}Input")(**input)
        request = session.operation_request(self.kind, method, self.id, message, number)
        options = {"node": session.node} | (options or {})
        responses = session.cluster.open(self.kind, method, request, session.partition, **options)
        name = f"{session.wire} {self.kind}/{method}"
        return Stream(session, name, responses, request.headers.sequence_num)

    def messages(self):
        return self.session.wire.module(self.kind)[0]

    def close(self):
        return self.session.operation("Session", "ClosePrimitive", 0, self._close_input())

    def _close_input(self):
        return self.session.wire.core("session").ClosePrimitiveInput(primitive_id=self.id)

"""The session stream of wire S: its calls, answers and codes as they are for unary calls."""

import queue
import threading

import grpc

from answers import PATIENCE
from report import expect
from wire import seconds

NOWHERE = 99


class _Stream:
    """One stream to a node. Answers wait until they are asked for."""

    def __init__(self, cluster, node):
        self.wire, self.partition = cluster.wire, cluster.partition
        self.core = self.wire.core("stream")
        self.fsm = self.wire.core("fsm")
        self.calls, self.heard = queue.SimpleQueue(), queue.SimpleQueue()
        self.early, self.leaders, self.windows = {}, [], []
        self.ids = iter(range(1, 1000))
        requests = iter(self.calls.get, None)
        responses = cluster.open("SessionStream", "OpenStream", requests, cluster.partition, node)
        threading.Thread(target=self._read, args=(responses,), daemon=True).start()

    def _read(self, responses):
        try:
            for response in responses:
                self.heard.put(response)
            self.heard.put(None)
        except grpc.RpcError as error:
            self.heard.put(error)

    def begin(self, partition=None, **call):
        call_id = next(self.ids)
        call = self.core.StreamCall(call_id=call_id, partition_id=partition or self.partition, **call)
        self.calls.put(self.core.OpenStreamRequest(calls=[call]))
        return call_id

    def cancel(self, call_id):
        call = self.core.StreamCall(call_id=call_id, partition_id=self.partition)
        call.cancel.SetInParent()
        self.calls.put(self.core.OpenStreamRequest(calls=[call]))

    def answer(self, call_id):
        self._hear_until(lambda: self.early.get(call_id))
        return self.early[call_id].pop(0)

    def leader(self):
        """Address of the node that is told to lead, of whatever partition comes first."""
        self._hear_until(lambda: self.leaders and self.leaders[-1].address)
        return self.leaders[-1].address

    def _hear_until(self, holds):
        while not holds():
            response = self._hear()
            expect(response is not None, "the stream ended early")
            self.leaders.extend(response.leaders)
            self.windows.append(response.window)
            for answer in response.answers:
                self.early.setdefault(answer.call_id, []).append(answer)

    def _hear(self):
        response = self.heard.get(timeout=PATIENCE)
        if isinstance(response, grpc.RpcError):
            raise AssertionError(f"the stream broke off: {response.code().name}: {response.details()}")
        return response

    def ask(self, **call):
        return self.answer(self.begin(**call))

    def ends(self):
        self.calls.put(None)
        while (response := self._hear()) is not None:
            expect(not response.answers, f"a late answer: {response}")

    def command(self, **payload):
        return self.fsm.PartitionInput(**payload)

    def in_session(self, session_id, number, **payload):
        input = self.fsm.SessionInput(session_id=session_id, sequence_num=number, **payload)
        return self.command(session_input=input)

    def operation(self, session_id, primitive, number, kind, method, **input):
        operation, input = self._operation(kind, method, input)
        service = self.fsm.ServiceInput(service_id=primitive, operation=operation, payload=input)
        return self.in_session(session_id, number, service_input=service)

    def query(self, session_id, primitive, kind, method, **input):
        operation, input = self._operation(kind, method, input)
        return self.core.StreamQuery(
            session_id=session_id, primitive_id=primitive, operation=operation, input=input
        )

    def _operation(self, kind, method, input):
        messages, _ = self.wire.module(kind)
        descriptor = messages.DESCRIPTOR.services_by_name[kind].methods_by_name[method]
        number = descriptor.GetOptions().Extensions[self.wire.core("options").operation_id]
        return number, getattr(messages, f"{method}Input")(**input).SerializeToString()

    def read(self, answer, kind, method, number):
        """The output of an answer that is OK."""
        status = self.wire.status(answer.status)
        expect((answer.code, status) == (0, "OK"), f"{method}: {answer}")
        expect(answer.output_sequence_num == number, f"{method}: {answer}")
        messages, _ = self.wire.module(kind)
        return getattr(messages, f"{method}Output").FromString(answer.output)

    def session(self):
        open = self.fsm.OpenSessionInput(timeout=seconds(30))
        answer = self.ask(command=self.command(open_session=open))
        expect(answer.last and answer.session_id > 0, f"OpenSession: {answer}")
        return answer.session_id

    def create(self, session_id, number, kind, name):
        spec = self.wire.spec(kind, name)
        create = self.fsm.CreateServiceInput(service=spec.service, name=name)
        answer = self.ask(command=self.in_session(session_id, number, create_service=create))
        expect(self.wire.status(answer.status) == "OK" and answer.primitive_id > 0, f"{answer}")
        return answer.primitive_id


def a_session_stream_carries_calls_of_every_kind(cluster):
    for node in range(len(cluster.endpoints)):
        stream = _Stream(cluster, node)
        session = stream.session()
        expect(stream.windows[0] > 0 and not any(stream.windows[1:]), f"windows {stream.windows}")
        counter = stream.create(session, 1, "Counter", f"over the stream of {node}")
        increment = stream.operation(session, counter, 2, "Counter", "Increment", delta=3)
        first = stream.ask(command=increment)
        expect(stream.read(first, "Counter", "Increment", 1).value == 3, f"{first}")
        again = stream.ask(command=increment)
        expect(stream.read(again, "Counter", "Increment", 1).value == 3, f"executed twice: {again}")
        value = stream.ask(query=stream.query(session, counter, "Counter", "Get"))
        expect(value.last and stream.read(value, "Counter", "Get", 0).value == 3, f"Get: {value}")
        entries = stream.create(session, 3, "Map", f"events over the stream of {node}")
        events = stream.begin(command=stream.operation(session, entries, 4, "Map", "Events"))
        listened = stream.read(stream.answer(events), "Map", "Events", 1)
        expect(listened.event.WhichOneof("event") is None, f"begins with {listened}")
        put = stream.operation(session, entries, 5, "Map", "Put", key="a", value=b"1")
        stream.read(stream.ask(command=put), "Map", "Put", 1)
        inserted = stream.read(stream.answer(events), "Map", "Events", 2)
        expect(inserted.event.inserted.value.value == b"1", f"{inserted}")
        stream.cancel(events)
        keep = stream.fsm.KeepAliveInput(session_id=session, exact=True, last_command_sequence_num=5)
        kept = stream.ask(command=stream.command(keep_alive=keep))
        expect(kept.last and kept.code == 0, f"KeepAlive: {kept}")
        late = stream.ask(command=increment)
        expect(late.code == grpc.StatusCode.ABORTED.value[0], f"not refused: {late}")
        close = stream.fsm.CloseSessionInput(session_id=session)
        stream.ask(command=stream.command(close_session=close))
        expect(stream.leader() in cluster.endpoints, f"leaders {stream.leaders}")
        stream.ends()


def a_session_stream_says_the_codes_of_unary_calls(cluster):
    stream = _Stream(cluster, 0)
    session = stream.session()
    counter = stream.create(session, 1, "Counter", "codes of a stream")
    get = stream.query(session, counter, "Counter", "Get")
    lost = stream.query(1 << 40, counter, "Counter", "Get")
    for code, call in (
        ("NOT_FOUND", {"query": get, "partition": NOWHERE}),
        ("DATA_LOSS", {"query": lost}),
        ("INVALID_ARGUMENT", {"command": stream.operation(session, counter, 0, "Counter", "Set")}),
    ):
        answer = stream.ask(**call)
        expect(answer.code == getattr(grpc.StatusCode, code).value[0], f"{answer}, not {code}")
        expect(answer.last and answer.message, f"says no reason: {answer}")
    update = stream.operation(session, counter, 2, "Counter", "Update", compare=1, update=2)
    answer = stream.ask(command=update)
    expect((answer.code, stream.wire.status(answer.status)) == (0, "CONFLICT"), f"{answer}")
    stream.ends()

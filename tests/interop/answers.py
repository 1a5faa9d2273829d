"""Answers as they come: one message or many, a gRPC code, or none yet."""

import queue
import threading
import time

import grpc

from report import expect

# Sub-messages that an answer may leave out; all others are always there.
OPTIONAL = (
    "map.v1.Entry.value",
    "indexedmap.v1.Entry.value",
    "value.v1.WatchOutput.value",
    "map.v1.PutOutput.prev_value",
    "value.v1.SetOutput.prev_value",
)

# A call may have to wait for an election on a busy machine.
PATIENCE = 20
# A stream goes on for as long as its check.
STREAM = 90


class Refused(Exception):
    """A call that was answered with a gRPC code."""

    def __init__(self, method, error):
        super().__init__(f"{method}: {error.code().name}: {error.details()}")
        self.code = error.code().name
        self.words = error.details()


class Pending:
    """A call on its way."""

    def __init__(self, wire, method, future):
        self.wire, self.method, self.future = wire, method, future

    def response(self):
        try:
            return self.future.result()
        except grpc.FutureCancelledError:
            raise AssertionError(f"{self.method}: was given up") from None
        except grpc.RpcError as error:
            self.wire.codes.add(error.code().name)
            raise Refused(self.method, error) from None

    def refused(self, code, words=""):
        """The call ends with this code."""
        try:
            response = self.response()
        except Refused as refusal:
            expect(refusal.code == code, f"{refusal}, not {code}")
            expect(words in refusal.words, f"{refusal}: lacks {words!r}")
        else:
            raise AssertionError(f"{self.method}: answered {response}, not {code}")


class PendingAnswer:
    """An operation on its way."""

    def __init__(self, session, pending, number):
        self.session, self.pending, self.number = session, pending, number

    def answer(self):
        return Answer(self.session, self.pending.method, self.pending.response())

    def refused(self, code, words=""):
        self.pending.refused(code, words)

    def waits(self, time_s=0.3):
        """The call is still open after a while."""
        time.sleep(time_s)
        expect(not self.pending.future.done(), f"{self.pending.method} does not wait")


class Answer:
    """A response with its headers read, every level of which must be there. The first of a stream of
    events is one without content."""

    def __init__(self, session, method, response, number=None, is_first_event=False):
        wire = session.wire
        self.method, self.response = method, response
        headers = response.headers
        level, path = response, ["headers", "operation", "session", wire.session, "partition"]
        for name in path:
            expect(level.HasField(name), lambda: f"{method}: no {name} of {path} in the response: {response}")
            level = getattr(level, name)
        self.index = level.index
        self.status = wire.status(headers.operation.status)
        wire.outcomes.add((*method.split()[-1].split("/"), self.status))
        self.message = headers.operation.message
        self.output = response.output
        self.number = getattr(headers, "output_sequence_num", None)
        wanted = number or (0 if method.endswith("Primitive") else 1)
        expect(self.number in (None, wanted), f"{method}: output number {self.number}, not {wanted}")
        expect(self.index >= session.id, f"{method}: index {self.index} is before the session")
        session.index = max(session.index, self.index)
        if self.status == "OK":
            expect(response.HasField("output"), f"{method}: OK without an output")
            expect(self.message == "", f"{method}: OK with the message {self.message!r}")
            if not is_first_event:
                complete(method, self.output)

    def ok(self, **fields):
        """OK, with these fields in the output."""
        return self.answered("OK", **fields)

    def answered(self, status, **fields):
        said = lambda: f"{self.method}: {self.status} {self.message!r} {self.output}"
        expect(self.status == status, lambda: f"{said()}, not {status}")
        expect(status == "OK" or self.message != "", lambda: f"{said()}: says no reason")
        for name, wanted in fields.items():
            value = getattr(self.output, name)
            value = list(value) if isinstance(wanted, list) else value
            expect(value == wanted, f"{self.method}: {name} is {value!r}, not {wanted!r}")
        return self


def complete(method, message):
    """All sub-messages are there: clients reach fields through them."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None:
            continue
        if field.is_repeated:
            for part in getattr(message, field.name):
                complete(method, part)
        elif message.HasField(field.name):
            complete(method, getattr(message, field.name))
        elif field.containing_oneof is not None:
            one = field.containing_oneof.name
            expect(message.WhichOneof(one), lambda: f"{method}: {one} is not set in {message}")
        else:
            expect(field.full_name.endswith(OPTIONAL), f"{method}: the output lacks {field.name}")


class Stream:
    """A call that is answered by a stream, which a thread reads as fast as it comes."""

    def __init__(self, session, method, responses, number):
        self.session, self.method, self.responses, self.number = session, method, responses, number
        # Number of the last output of a command.
        self.last = 0
        self._parts = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for response in self.responses:
                self._parts.put(response)
            self._parts.put(None)
        except grpc.RpcError as error:
            self._parts.put(error)

    def _next(self):
        try:
            part = self._parts.get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"{self.method}: says nothing for {PATIENCE} s") from None
        if isinstance(part, grpc.RpcError):
            self.session.wire.codes.add(part.code().name)
            raise Refused(self.method, part)
        return part

    def answer(self, is_first_event=False):
        """The next part, whose number follows that of the last."""
        response = self._next()
        expect(response is not None, f"{self.method}: ended after {self.last}")
        self.last += 1
        return Answer(self.session, self.method, response, self.last, is_first_event)

    def output(self):
        return self.answer().ok().output

    def subscribed(self, key=""):
        """The first event says that the client is subscribed, and to which key."""
        event = self.answer(is_first_event=True).ok().output.event
        expect(event.WhichOneof("event") is None, f"{self.method}: begins with {event}")
        expect(getattr(event, "key", "") == key, f"{self.method}: begins with {event}")
        return self

    def ends(self):
        """As after the last word: with status OK."""
        part = self._next()
        expect(part is None, f"{self.method}: goes on with {part}")

    def refused(self, code, words=""):
        try:
            part = self._next()
        except Refused as refusal:
            expect(refusal.code == code, f"{refusal}, not {code}")
            expect(words in refusal.words, f"{refusal}: lacks {words!r}")
        else:
            raise AssertionError(f"{self.method}: goes on with {part}, not {code}")

    def is_silent(self, time_s=0.3):
        """Nothing has come, not even an end, after a while."""
        time.sleep(time_s)
        expect(self._parts.empty(), f"{self.method}: is not silent")

    def give_up(self):
        self.responses.cancel()

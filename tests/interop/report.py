"""One line for each check; the run goes on after one that fails."""

import threading
import time
import traceback
from types import FunctionType


def expect(holds, otherwise):
    """`otherwise` is a text, or makes one: that of a large message takes longer than the call."""
    if not holds:
        raise AssertionError(otherwise() if callable(otherwise) else otherwise)


def eventually(what, holds, within=20):
    """Waits until `holds()` is true."""
    deadline = time.monotonic() + within
    while not holds():
        expect(time.monotonic() < deadline, f"no {what} within {within} s")
        time.sleep(0.05)


class Report:
    def __init__(self, only):
        self.only = only
        self.passed = 0
        self.failed = 0
        # (where, name) of the checks that passed.
        self.held = set()
        self._one = threading.Lock()

    def check_all(self, cluster, module):
        """Runs the checks of a module, in their order: its functions that want a cluster and nothing
        else."""
        for function in vars(module).values():
            own = isinstance(function, FunctionType) and function.__module__ == module.__name__
            if own and function.__name__[0] != "_" and function.__code__.co_argcount == 1:
                self.check(cluster.wire, function, cluster)

    def check(self, where, function, *arguments, always=False):
        """Runs a check, whose name says what holds."""
        claim = function.__name__.replace("_", " ")
        if self.only not in claim and not always:
            return
        started = time.monotonic()
        try:
            function(*arguments)
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[1:]
            places = [f"\n    {frame.filename}:{frame.lineno} {frame.line}" for frame in frames]
            self._say(f"test {where}: {claim} ... FAILED: {error}{''.join(places)}", failed=1)
        else:
            self.held.add((str(where), function.__name__))
            self._say(f"test {where}: {claim} ... ok ({time.monotonic() - started:.1f} s)", passed=1)

    def _say(self, line, passed=0, failed=0):
        with self._one:
            self.passed += passed
            self.failed += failed
            print(line, flush=True)

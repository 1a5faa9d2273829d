"""Calls that wait for longer than any time-out of a node; beside the other checks."""

import time

from wire import seconds

# Nodes once gave up on calls after 15 s.
LONG_S = 16


def locks_are_waited_for_longer_than_fifteen_seconds(cluster):
    everywhere = range(len(cluster.endpoints))
    holder = cluster.session(timeout=60).create("Lock", "waited for long")
    waiters = [cluster.session(timeout=60, node=node) for node in everywhere]
    locks = [waiter.create("Lock", "waited for long") for waiter in waiters]
    keys = cluster.session(timeout=60).create("Map", "waited for long in a map")
    other = cluster.session(timeout=60).create("Map", "waited for long in a map")
    holder("Acquire").ok()
    keys("Lock", keys=["a"]).ok()
    patient = {"timeout": 60}
    waiting = [lock.begin("Acquire", options=patient) for lock in locks]
    limited = other.begin("Lock", options=patient, keys=["a"], timeout=seconds(50))
    waiting[0].waits(LONG_S)
    holder("Release").ok()
    keys("Unlock").ok()
    # In the order in which they came, which nobody knows: each gives it back when it has it.
    left = dict(zip(locks, waiting))
    while left:
        lock = next((lock for lock, call in left.items() if call.pending.future.done()), None)
        if lock is None:
            time.sleep(0.01)
            continue
        left.pop(lock).answer().ok()
        lock("Release").ok()
    limited.answer().ok()

"""Counters and counter maps: every unary operation and every status."""

from wire import seconds

INT64_MAX = (1 << 63) - 1


def a_counter_counts(cluster):
    counter = cluster.session().create("Counter", "a counter counts")
    counter("Get").ok(value=0)
    counter("Set", value=5).ok(value=5)
    counter("Update", compare=5, update=-7).ok(value=-7)
    counter("Update", compare=5, update=8).answered("CONFLICT")
    counter("Increment", delta=10).ok(value=3)
    counter("Increment").ok(value=3)
    counter("Decrement", delta=4).ok(value=-1)
    counter("Get").ok(value=-1)


def a_counter_does_not_wrap(cluster):
    counter = cluster.session().create("Counter", "a counter does not wrap")
    counter("Set", value=INT64_MAX).ok(value=INT64_MAX)
    counter("Increment", delta=1).answered("INVALID")
    counter("Get").ok(value=INT64_MAX)
    counter("Set", value=-INT64_MAX).ok()
    counter("Decrement", delta=2).answered("INVALID")
    counter("Get").ok(value=-INT64_MAX)


def a_counter_map_does_not_wrap(cluster):
    counters = cluster.session().create("CounterMap", "a counter map does not wrap")
    counters("Set", key="a", value=INT64_MAX).ok()
    counters("Increment", key="a").answered("INVALID")
    counters("Set", key="b", value=-INT64_MAX).ok()
    counters("Decrement", key="b", delta=2).answered("INVALID")
    counters("Get", key="a").ok(value=INT64_MAX)
    counters("Get", key="b").ok(value=-INT64_MAX)


def a_counter_map_counts_by_key(cluster):
    counters = cluster.session().create("CounterMap", "a counter map counts by key")
    counters("Set", key="a", value=3).ok(prev_value=0)
    counters("Set", key="a", value=4).ok(prev_value=3)
    counters("Insert", key="b", value=7).ok()
    counters("Insert", key="b", value=8).answered("ALREADY_EXISTS")
    counters("Update", key="b", value=9, prev_value=7).ok(prev_value=7)
    counters("Update", key="b", value=1, prev_value=7).answered("CONFLICT")
    counters("Update", key="none", value=1).answered("NOT_FOUND")
    counters("Increment", key="c", delta=5).ok(prev_value=0)
    counters("Increment", key="c").ok(prev_value=5)
    counters("Decrement", key="c", delta=2).ok(prev_value=6)
    counters("Get", key="c").ok(value=4)
    counters("Get", key="none").answered("NOT_FOUND")
    counters("Size").ok(size=3)
    counters("Remove", key="c").answered("CONFLICT")
    counters("Remove", key="none").answered("NOT_FOUND")
    counters("Remove", key="c", prev_value=4).ok(value=4)
    counters("Clear").ok()
    counters("Size").ok(size=0)


def keys_of_a_counter_map_are_locked(cluster):
    _locks_on_keys(cluster, "CounterMap")


def keys_of_a_map_are_locked(cluster):
    _locks_on_keys(cluster, "Map")


def _locks_on_keys(cluster, kind):
    name = f"keys of a {kind} are locked"
    holder, other = (cluster.session().create(kind, name) for _ in range(2))
    holder("Lock", keys=["a", "b"]).ok()
    other("Lock", keys=["b", "c"], timeout=seconds(0)).answered("CONFLICT")
    other("Lock", keys=["c"]).ok()
    other("Unlock", keys=["a"]).answered("CONFLICT")
    waiting = other.begin("Lock", keys=["a"])
    waiting.waits()
    holder("Unlock").ok()
    waiting.answer().ok()
    other("Lock").answered("INVALID")

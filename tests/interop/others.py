"""Elections, locks, sets and values: every unary operation and every status."""

from report import eventually, expect
from wire import seconds


def an_election_orders_candidates(cluster):
    session = cluster.session()
    election = session.create("LeaderElection", "an election orders candidates")
    last = cluster.session()
    _term(election("GetTerm"), "", [], 0)
    election("Enter", candidate="").answered("INVALID")
    _term(election("Enter", candidate="a"), "a", [], 1)
    _term(election("Enter", candidate="a"), "a", [], 1)
    _term(election("Enter", candidate="b"), "a", ["b"], 1)
    _term(election("Enter", candidate="c"), "a", ["b", "c"], 1)
    _term(election("Promote", candidate="c"), "a", ["c", "b"], 1)
    _term(election("Promote", candidate="c"), "c", ["a", "b"], 2)
    _term(election("Demote", candidate="c"), "a", ["c", "b"], 3)
    _term(election("Demote", candidate="c"), "a", ["b", "c"], 3)
    _term(election("Anoint", candidate="c"), "c", ["a", "b"], 4)
    _term(election("Anoint", candidate="none"), "c", ["a", "b"], 4)
    _term(election("Withdraw", candidate="c"), "a", ["b"], 5)
    _term(election("Evict", candidate="b"), "a", [], 5)
    other = last.create("LeaderElection", "an election orders candidates")
    _term(other("Enter", candidate="d"), "a", ["d"], 5)
    session.close()
    _term(other("GetTerm"), "d", [], 6)


def _term(answer, leader, candidates, index):
    term = answer.ok().output.term
    seen = (term.leader, list(term.candidates), term.index)
    expect(seen == (leader, candidates, index), f"{answer.method}: {seen}")


def a_lock_has_one_holder(cluster):
    first, second = (cluster.session().create("Lock", "a lock has one holder") for _ in range(2))
    first("Get").answered("NOT_FOUND")
    first("Release").answered("CONFLICT")
    token = first("Acquire").ok()
    expect(token.output.index == token.index, f"a token is an index: {token.response}")
    first("Get").ok(index=token.index)
    second("Acquire", timeout=seconds(0)).answered("CONFLICT")
    second("Acquire", timeout=seconds(1)).answered("CONFLICT")
    second("Release").answered("CONFLICT")
    waiting = second.begin("Acquire")
    waiting.waits()
    first("Release").ok()
    granted = waiting.answer().ok().output.index
    expect(granted > token.index, f"the token {granted} follows {token.index}")
    second("Get").ok(index=granted)


def a_lock_goes_on_when_the_session_of_its_holder_expires(cluster):
    dying = cluster.session(timeout=2)
    holder = dying.create("Lock", "a lock goes on")
    waiter = cluster.session().create("Lock", "a lock goes on")
    token = holder("Acquire").ok().output.index
    granted = waiter("Acquire").ok().output.index
    expect(granted > token, f"the token {granted} follows {token}")
    dying.begin("KeepAlive", dying.keep_alive_request('{"m":1,"k":1,"b":"AAAAAAAAAAA="}', 9)).refused(
        "DATA_LOSS", str(dying.id)
    )
    holder.begin("Release").refused("DATA_LOSS", str(dying.id))
    waiter("Get").ok(index=granted)


def a_set_holds_elements(cluster):
    elements = cluster.session().create("Set", "a set holds elements")
    element = elements.messages().Element
    elements("Add", element=element(value="a")).ok(added=True)
    elements("Add", element=element(value="a")).ok(added=False)
    elements("Add", element=element(value="b"), ttl=seconds(1)).ok(added=True)
    elements("Contains", element=element(value="a")).ok(contains=True)
    elements("Contains", element=element(value="none")).ok(contains=False)
    elements("Remove", element=element(value="none")).ok(removed=False)
    eventually("expiry", lambda: elements("Size").ok().output.size == 1)
    elements("Remove", element=element(value="a")).ok(removed=True)
    elements("Add", element=element(value="c")).ok(added=True)
    elements("Clear").ok()
    elements("Size").ok(size=0)


def a_value_is_compared_and_set(cluster):
    value = cluster.session().create("Value", "a value is compared and set")
    indexed = value.messages().IndexedValue
    value("Get").answered("NOT_FOUND")
    value("Update", value=b"0").answered("NOT_FOUND")
    value("Delete").answered("NOT_FOUND")
    first = value("Insert", value=b"1").ok().output.index
    value("Insert", value=b"2").answered("ALREADY_EXISTS")
    second = value("Set", value=b"2").ok(prev_value=indexed(value=b"1", index=first)).output.index
    value("Update", value=b"3", prev_index=first).answered("CONFLICT")
    value("Delete", prev_index=first).answered("CONFLICT")
    value("Get").ok(value=indexed(value=b"2", index=second))
    third = value("Update", value=b"3", prev_index=second).ok()
    expect(third.output.prev_value.value == b"2", f"Update: {third.output}")
    value("Delete", prev_index=third.index).ok(value=indexed(value=b"3", index=third.index))
    value("Get").answered("NOT_FOUND")


def a_value_expires_without_traffic(cluster):
    value = cluster.session().create("Value", "a value expires")
    value("Set", value=b"1", ttl=seconds(2)).ok()
    value("Get").ok()
    eventually("expiry", lambda: value("Get").status == "NOT_FOUND")

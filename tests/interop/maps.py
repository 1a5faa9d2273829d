"""Maps, indexed maps and multimaps: every unary operation and every status."""

from report import eventually, expect
from wire import seconds


def a_map_holds_values(cluster):
    entries = cluster.session().create("Map", "a map holds values")
    value = entries.messages().IndexedValue
    first = entries("Put", key="a", value=b"1").ok()
    expect(first.output.index == first.index, f"a version is an index: {first.response}")
    expect(not first.output.HasField("prev_value"), "a new value replaces none")
    old = value(value=b"1", index=first.index)
    entries("Get", key="a").ok(value=old)
    entries("Put", key="a", value=b"1").ok(index=first.index)
    second = entries("Put", key="a", value=b"2", prev_index=first.index).ok(prev_value=old)
    entries("Put", key="a", value=b"3", prev_index=first.index).answered("CONFLICT")
    entries("Put", key="new", value=b"3", prev_index=1).answered("CONFLICT")
    entries("Insert", key="b", value=b"x").ok()
    entries("Insert", key="b", value=b"y").answered("ALREADY_EXISTS")
    third = entries("Update", key="a", value=b"3", prev_index=second.index)
    third.ok(prev_value=value(value=b"2", index=second.index))
    entries("Update", key="a", value=b"4", prev_index=first.index).answered("CONFLICT")
    entries("Update", key="none", value=b"4").answered("NOT_FOUND")
    entries("Size").ok(size=2)
    entries("Remove", key="a", prev_index=first.index).answered("CONFLICT")
    entries("Remove", key="none").answered("NOT_FOUND")
    entries("Remove", key="a").ok(value=value(value=b"3", index=third.index))
    entries("Get", key="a").answered("NOT_FOUND")
    entries("Put", key="k" * 2000, value=b"").answered("INVALID")
    entries("Clear").ok()
    entries("Size").ok(size=0)


def entries_of_a_map_expire_without_traffic(cluster):
    entries = cluster.session().create("Map", "entries of a map expire")
    entries("Put", key="a", value=b"1", ttl=seconds(2)).ok()
    entries("Put", key="b", value=b"1", ttl=seconds(2)).ok()
    entries("Put", key="b", value=b"2").ok()
    entries("Get", key="a").ok()
    eventually("expiry", lambda: entries("Get", key="a").status == "NOT_FOUND")
    entries("Size").ok(size=1)


def a_transaction_is_applied_as_a_whole(cluster):
    entries = cluster.session().create("Map", "a transaction is applied as a whole")
    messages = entries.messages()
    put = messages.MapInput(put=messages.PutInput(key="a", value=b"1"))
    insert = messages.MapInput(insert=messages.InsertInput(key="b", value=b"2"))
    applied = entries("Apply", inputs=[put, insert]).ok()
    kinds = [output.WhichOneof("output") for output in applied.output.outputs]
    expect(kinds == ["put", "insert"], f"Apply answers {kinds}")
    update = messages.MapInput(update=messages.UpdateInput(key="a", value=b"3"))
    entries("Apply", inputs=[update, insert]).answered("ALREADY_EXISTS")
    entries("Apply", inputs=[update, update]).answered("CONFLICT")
    missing = messages.MapInput(remove=messages.RemoveInput(key="none"))
    entries("Apply", inputs=[update, missing]).answered("NOT_FOUND")
    entries("Apply", inputs=[messages.MapInput(size=messages.SizeInput())]).answered("INVALID")
    expect(entries("Get", key="a").ok().output.value.value == b"1", "a failed one changed a value")
    remove = messages.MapInput(remove=messages.RemoveInput(key="b"))
    removed = entries("Apply", inputs=[update, remove]).ok().output.outputs
    expect(removed[0].update.prev_value.value == b"1", f"update answers {removed[0]}")
    expect(removed[1].remove.value.value == b"2", f"remove answers {removed[1]}")


def a_transaction_has_two_phases(cluster):
    session = cluster.session()
    entries = session.create("Map", "a transaction has two phases")
    other = cluster.session().create("Map", "a transaction has two phases")
    messages = entries.messages()
    inputs = [messages.MapInput(put=messages.PutInput(key="a", value=b"1"))]
    number = next(session.numbers)
    entries("Prepare", number=number, sequence_num=number, inputs=inputs).ok()
    other("Put", key="a", value=b"2").answered("CONFLICT")
    other("Insert", key="a", value=b"2").answered("CONFLICT")
    other("Update", key="a", value=b"2").answered("CONFLICT")
    other("Remove", key="a").answered("CONFLICT")
    other("Clear").answered("CONFLICT")
    other("Prepare", sequence_num=1, inputs=inputs).answered("CONFLICT")
    other("Apply", inputs=inputs).answered("CONFLICT")
    other("Commit", sequence_num=number).answered("NOT_FOUND")
    entries("Get", key="a").answered("NOT_FOUND")
    committed = entries("Commit", sequence_num=number).ok().output.outputs
    expect(committed[0].put.index > 0, f"Commit answers {committed}")
    entries("Commit", sequence_num=number).answered("NOT_FOUND")
    number = next(session.numbers)
    entries("Prepare", number=number, sequence_num=number, inputs=inputs).ok()
    entries("Abort", sequence_num=number).ok()
    entries("Abort", sequence_num=number).ok()
    other("Put", key="a", value=b"2").ok()
    insert = messages.MapInput(insert=messages.InsertInput(key="a", value=b"1"))
    remove = messages.MapInput(remove=messages.RemoveInput(key="none"))
    read = messages.MapInput(get=messages.GetInput(key="a"))
    for input, status in ((insert, "ALREADY_EXISTS"), (remove, "NOT_FOUND"), (read, "INVALID")):
        entries("Prepare", sequence_num=number, inputs=[input]).answered(status)


def a_transaction_ends_with_its_session(cluster):
    session = cluster.session()
    entries = session.create("Map", "a transaction ends with its session")
    other = cluster.session().create("Map", "a transaction ends with its session")
    messages = entries.messages()
    number = next(session.numbers)
    inputs = [messages.MapInput(insert=messages.InsertInput(key="a", value=b"1"))]
    entries("Prepare", number=number, sequence_num=number, inputs=inputs).ok()
    other("Put", key="a", value=b"2").answered("CONFLICT")
    session.close()
    other("Put", key="a", value=b"2").ok()


def an_indexed_map_keeps_the_order(cluster):
    entries = cluster.session().create("IndexedMap", "an indexed map keeps the order")
    for method in ("FirstEntry", "LastEntry"):
        entries(method).answered("NOT_FOUND")
    a, b, c = (entries("Append", key=key, value=key.encode()).ok().output.entry for key in "abc")
    expect((a.index, b.index, c.index) == (1, 2, 3), f"indexes {a.index} {b.index} {c.index}")
    entries("Append", key="a", value=b"").answered("ALREADY_EXISTS")
    entries("Get", key="b").ok(entry=b)
    entries("Get", index=2).ok(entry=b)
    entries("Get", key="none").answered("NOT_FOUND")
    entries("FirstEntry").ok(entry=a)
    entries("LastEntry").ok(entry=c)
    entries("NextEntry", index=1).ok(entry=b)
    entries("NextEntry", index=3).answered("NOT_FOUND")
    entries("PrevEntry", index=9).ok(entry=c)
    entries("PrevEntry", index=1).answered("NOT_FOUND")
    updated = entries("Update", key="b", value=b"B", prev_version=b.value.version).ok()
    expect(updated.output.entry.index == 2, f"an update moves its entry: {updated.output}")
    expect(updated.output.entry.value.version == updated.index, f"version: {updated.response}")
    entries("Update", index=2, value=b"B").ok(entry=updated.output.entry)
    entries("Update", index=2, value=b"x", prev_version=1).answered("CONFLICT")
    entries("Update", key="a", index=2, value=b"x").answered("CONFLICT")
    entries("Update", key="none", value=b"x").answered("NOT_FOUND")
    entries("Update", value=b"x").answered("INVALID")
    entries("Remove", key="b", prev_version=1).answered("CONFLICT")
    entries("Remove", index=2).ok(entry=updated.output.entry)
    entries("Remove", key="b").answered("NOT_FOUND")
    entries("Size").ok(size=2)
    entries("Clear").ok()
    entries("Size").ok(size=0)
    after = entries("Append", key="d", value=b"").ok()
    expect(after.output.entry.index == 4, f"indexes go back: {after.output}")


def entries_of_an_indexed_map_expire_without_traffic(cluster):
    entries = cluster.session().create("IndexedMap", "entries of an indexed map expire")
    entries("Append", key="a", value=b"1", ttl=seconds(1)).ok()
    eventually("expiry", lambda: entries("Get", key="a").status == "NOT_FOUND")


def a_multimap_holds_sets_of_values(cluster):
    entries = cluster.session().create("MultiMap", "a multimap holds sets of values")
    entry = entries.messages().Entry
    entries("Get", key="a").ok(values=[])
    entries("Put", key="a", value="1").ok()
    entries("Put", key="a", value="1").answered("ALREADY_EXISTS")
    entries("PutAll", key="a", values=["1", "2"]).ok(updated=True)
    entries("PutAll", key="a", values=["1", "2"]).ok(updated=False)
    entries("PutEntries", entries=[entry(key="b", values=["x"])]).ok(updated=True)
    entries("Contains", key="a", value="2").ok(result=True)
    entries("Contains", key="none", value="2").ok(result=False)
    entries("Get", key="a").ok(values=["1", "2"])
    entries("Size").ok(size=2)
    entries("Replace", key="a", values=["2", "3"]).ok(prev_values=["1", "2"])
    entries("Remove", key="a", value="1").answered("NOT_FOUND")
    entries("Remove", key="a", value="2").ok(values=[])
    entries("RemoveAll", key="a", values=["2", "4"]).ok(updated=False)
    entries("RemoveAll", key="none", values=["2"]).answered("NOT_FOUND")
    entries("RemoveAll", key="a", values=["3"]).ok(updated=True)
    entries("Size").ok(size=1)
    entries("RemoveEntries", entries=[entry(key="b", values=["x", "y"])]).ok(updated=True)
    entries("RemoveEntries", entries=[entry(key="b", values=["x"])]).ok(updated=False)
    entries("Put", key="c", value="1").ok()
    entries("Clear").ok()
    entries("Size").ok(size=0)

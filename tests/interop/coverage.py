"""What of the contract this run has to meet: every call of both wires, every outcome that the headers of
an operation may have, every way in which calls fail, and every event. What is not met fails the run; what
cannot be met here has its reason, or the Rust test that meets it."""

import pathlib
import re

from report import expect
from wire import PRIMITIVES

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

# Outcomes of each operation beside OK. Limits that are far away are no part of it (docs/primitives.md).
OUTCOMES = {
    "Counter": {
        "Set": "",
        "Update": "CONFLICT",
        "Increment": "INVALID",
        "Decrement": "INVALID",
        "Get": "",
    },
    "CounterMap": {
        "Set": "",
        "Insert": "ALREADY_EXISTS",
        "Update": "NOT_FOUND CONFLICT",
        "Increment": "INVALID",
        "Decrement": "INVALID",
        "Remove": "NOT_FOUND CONFLICT",
        "Clear": "",
        "Get": "NOT_FOUND",
        "Size": "",
        "Lock": "CONFLICT INVALID",
        "Unlock": "CONFLICT",
        "Events": "",
        "Entries": "",
    },
    "LeaderElection": {
        "Enter": "INVALID",
        "Withdraw": "",
        "Anoint": "",
        "Promote": "",
        "Demote": "",
        "Evict": "",
        "GetTerm": "",
        "Watch": "",
    },
    "IndexedMap": {
        "Append": "ALREADY_EXISTS",
        "Update": "INVALID NOT_FOUND CONFLICT",
        "Remove": "NOT_FOUND CONFLICT",
        "Get": "NOT_FOUND",
        "FirstEntry": "NOT_FOUND",
        "LastEntry": "NOT_FOUND",
        "NextEntry": "NOT_FOUND",
        "PrevEntry": "NOT_FOUND",
        "Clear": "",
        "Size": "",
        "Events": "",
        "Entries": "",
    },
    "Lock": {
        "Acquire": "CONFLICT",
        "Release": "CONFLICT",
        "Get": "NOT_FOUND",
    },
    "Map": {
        "Put": "CONFLICT INVALID",
        "Insert": "CONFLICT ALREADY_EXISTS",
        "Update": "CONFLICT NOT_FOUND",
        "Remove": "CONFLICT NOT_FOUND",
        "Clear": "CONFLICT",
        "Get": "NOT_FOUND",
        "Size": "",
        "Lock": "CONFLICT INVALID",
        "Unlock": "CONFLICT",
        "Events": "FORBIDDEN NOT_SUPPORTED",
        "Entries": "FORBIDDEN NOT_SUPPORTED",
        "Prepare": "CONFLICT ALREADY_EXISTS NOT_FOUND INVALID",
        "Commit": "NOT_FOUND",
        "Abort": "",
        "Apply": "CONFLICT ALREADY_EXISTS NOT_FOUND INVALID",
    },
    "MultiMap": {
        "Put": "ALREADY_EXISTS",
        "PutAll": "",
        "PutEntries": "",
        "Replace": "",
        "Remove": "NOT_FOUND",
        "RemoveAll": "NOT_FOUND",
        "RemoveEntries": "",
        "Clear": "",
        "Contains": "",
        "Get": "",
        "Size": "",
        "Events": "",
        "Entries": "",
    },
    "Set": {
        "Add": "",
        "Remove": "",
        "Clear": "",
        "Contains": "",
        "Size": "",
        "Events": "",
        "Elements": "",
    },
    "Value": {
        "Set": "",
        "Insert": "ALREADY_EXISTS",
        "Update": "NOT_FOUND CONFLICT",
        "Delete": "NOT_FOUND CONFLICT",
        "Get": "NOT_FOUND",
        "Watch": "",
        "Events": "",
    },
    "Session": {
        "CreatePrimitive": "FORBIDDEN",
        "ClosePrimitive": "FORBIDDEN",
    },
}

# Any operation may have them: it is met that some do.
ANYWHERE = {"INVALID", "FORBIDDEN", "NOT_SUPPORTED"}

_LAYER = "said by gRPC codes: nothing of a machine is in doubt"
# Those of the headers that no operation has, and why.
NO_OUTCOME = {
    "UNKNOWN": "every failure has a name; 0 on wire S, where clients take it for unset",
    "ERROR": "every failure has a name",
    "CANCELED": _LAYER,
    "UNAUTHORIZED": "callers are not told apart yet",
    "UNAVAILABLE": _LAYER,
    "TIMEOUT": "a wait that took too long is CONFLICT",
    "INTERNAL": _LAYER,
    "FAULT": _LAYER,
}

# gRPC codes that a wire does not have here, and why; all others are met.
_NODE = "only of service Node, which is of wire S"
NO_CODE = {
    "M": {
        "UNKNOWN": "every failure has a code",
        "NOT_FOUND": "a partition that no node has is UNAVAILABLE: stock clients try again on that only",
        "ALREADY_EXISTS": _NODE,
        "PERMISSION_DENIED": _NODE,
        "FAILED_PRECONDITION": _NODE,
        "RESOURCE_EXHAUSTED": "is UNAVAILABLE: stock clients try again on that only",
        "INTERNAL": "a defect of a node",
        "UNAUTHENTICATED": "callers are not told apart yet",
    },
    "S": {
        "UNKNOWN": "every failure has a code",
        "PERMISSION_DENIED": "only of fenced nodes, as the operator's: "
        "tests/e2e/tests/wire/administration.rs::a_node_of_an_operator_wants_its_fence",
        "INTERNAL": "a defect of a node",
        "UNAUTHENTICATED": "callers are not told apart yet",
    },
}

# The two layers of failures: what happens, how it is reported, and the checks that show it on both
# wires ("S:" on ours only) or, behind "never", why it cannot happen any more.
FAILURES = [
    (
        "a session that is gone: keep-alive, close, command, query, CreatePrimitive",
        "DATA_LOSS",
        "a_session_that_is_gone_says_so_and_only_then",
    ),
    ("a session that is gone: stream", "DATA_LOSS", "a_stream_of_a_session_that_is_gone_says_so"),
    (
        "a filter that does not decode",
        "INVALID_ARGUMENT",
        "a_filter_that_does_not_decode_keeps_nothing_alive",
    ),
    (
        "a partition that no node has: call",
        "UNAVAILABLE; wire S NOT_FOUND",
        "a_partition_that_no_node_has_is_refused",
    ),
    (
        "a partition that no node has: stream",
        "UNAVAILABLE; wire S NOT_FOUND",
        "a_stream_of_a_partition_that_no_node_has_is_not_refused_in_haste",
    ),
    (
        "a partition that this node has not, but others",
        "served",
        "a_node_without_a_member_passes_calls_on streams_reach_a_node_without_a_member",
    ),
    (
        "a command reaches a node that does not lead",
        "served",
        "a_command_that_is_repeated_takes_effect_once every_node_reads_what_was_written",
    ),
    (
        "a command reaches a node that does not lead",
        "UNAVAILABLE",
        "never: any node passes commands on to the leader",
    ),
    ("a group is not there yet", "UNAVAILABLE", "nobody_is_served_before_groups_are_formed"),
    (
        "a group has lost its leader",
        "UNAVAILABLE until there is another",
        "events_have_no_gap_and_no_repeat_when_the_leader_is_killed",
    ),
    ("Raft is busy", "UNAVAILABLE", "never: a full queue is RESOURCE_EXHAUSTED, on wire M UNAVAILABLE"),
    (
        "a limit of a group is reached",
        "RESOURCE_EXHAUSTED",
        "S:a_limit_is_told_with_its_name",
    ),
    (
        "a proposal takes longer than a minute",
        "DEADLINE_EXCEEDED",
        "never: nodes wait for as long as their caller does",
    ),
    (
        "the caller's deadline is over",
        "DEADLINE_EXCEEDED",
        "a_deadline_is_kept the_deadline_of_a_stream_is_kept",
    ),
    (
        "a call waits for longer than a node once did",
        "served",
        "locks_are_waited_for_longer_than_fifteen_seconds",
    ),
    ("a proposal is rejected", "PERMISSION_DENIED", "never: Raft rejects nothing that a node proposes"),
    ("a message is too large", "PERMISSION_DENIED", "never: it is OUT_OF_RANGE"),
    ("a message is too large", "OUT_OF_RANGE", "a_message_has_four_mebibytes_at_most"),
    ("a message does not decode", "INVALID_ARGUMENT", "a_message_must_decode"),
    (
        "headers without a target",
        "INVALID_ARGUMENT",
        "headers_must_name_their_target a_stream_must_have_a_number_and_a_target",
    ),
    (
        "a number that was released",
        "ABORTED",
        "a_keep_alive_releases_what_its_filter_does_not_hold "
        "a_stream_whose_number_was_released_is_not_opened_again",
    ),
    (
        "a pending call is cancelled by its session",
        "CANCELLED",
        "closing_a_session_cancels_what_waits_there",
    ),
    (
        "a pending call is cancelled by its primitive",
        "CANCELLED",
        "closing_a_primitive_cancels_what_waits_there",
    ),
    (
        "a pending call is cancelled by a keep-alive",
        "CANCELLED",
        "a_keep_alive_cancels_what_its_filter_does_not_hold",
    ),
    ("a stream is cancelled by its session", "end", "closing_a_session_ends_its_streams"),
    (
        "a stream is cancelled by its primitive",
        "end",
        "closing_a_primitive_ends_its_streams_and_no_others",
    ),
    (
        "a stream is cancelled by a keep-alive",
        "end",
        "a_keep_alive_ends_the_streams_that_its_filter_does_not_hold",
    ),
    (
        "a stream is cancelled by a keep-alive with an exact set",
        "end",
        "S:an_exact_set_ends_the_streams_that_it_does_not_hold",
    ),
    (
        "a stream is cancelled by an administrator",
        "end",
        "S:sessions_are_listed_and_expired_on_any_node "
        "S:primitives_are_listed_and_destroyed_on_any_node",
    ),
    (
        "a primitive that is unknown, or not open in the session",
        "header FORBIDDEN",
        "a_primitive_must_be_open_in_the_session a_stream_of_a_primitive_that_is_not_open_is_forbidden",
    ),
    ("CreatePrimitive: the name has another type", "header FORBIDDEN", "a_name_is_of_one_type"),
    ("CreatePrimitive: an unknown type", "header FORBIDDEN", "an_unknown_type_is_forbidden"),
    (
        "Lock, Unlock of maps and counter maps",
        "header NOT_SUPPORTED",
        "never: they are served",
    ),
    (
        "an operation of another type",
        "header NOT_SUPPORTED",
        "an_operation_of_another_type_is_not_executed a_stream_of_another_type_is_not_executed",
    ),
    ("a call that does not exist", "UNIMPLEMENTED", "an_unknown_call_is_unimplemented"),
    (
        "KeepAlive while there is no leader: clients end on DATA_LOSS",
        "UNAVAILABLE",
        "events_have_no_gap_and_no_repeat_when_the_leader_is_killed",
    ),
    (
        "a stream that cannot be served: clients open it again at once",
        "UNAVAILABLE after a second",
        "no_stream_is_refused_in_haste_before_groups_are_formed "
        "a_stream_of_a_partition_that_no_node_has_is_not_refused_in_haste",
    ),
]

# Names of the product's first description, on page PARTITION and on page NODE-B.
_BOTH_PAGES = (
    "member_ready leader_updated membership_changed send_snapshot_started send_snapshot_completed "
    "send_snapshot_aborted snapshot_received snapshot_recovered snapshot_created snapshot_compacted "
    "log_compacted logdb_compacted "
)
PAGES = {
    "Partition": set((_BOTH_PAGES + "service_config_changed").split()),
    "Node": set((_BOTH_PAGES + "connection_established connection_failed").split()),
}

# Events that need more than clients can do.
_UNSENT = "node/host/tests/snapshots.rs::a_snapshot_that_cannot_be_sent_is_told_of_and_a_newer_one_is_sent"
EVENTS_ELSEWHERE = {
    ("Node", "send_snapshot_aborted"): _UNSENT,
    ("Partition", "send_snapshot_aborted"): _UNSENT,
    ("Node", "member_closed"): "tests/e2e/tests/faults/older_copies.rs"
    "::a_follower_on_an_older_copy_of_its_directory_is_refused_by_its_peers",
}


def check(report, clusters, watches):
    """Checks it all, and says how much it is."""
    counts = []
    report.check("coverage", every_call_was_made, clusters, counts)
    report.check("coverage", every_operation_had_all_its_outcomes_and_no_other, clusters, counts)
    report.check("coverage", every_outcome_and_code_was_met_or_has_a_reason, clusters, counts)
    report.check("coverage", every_way_to_fail_was_met_or_has_a_reason, report.held, counts)
    report.check("coverage", every_event_was_told_or_has_a_test, clusters, watches, counts)
    print(f"coverage: {'; '.join(counts)}")


def every_call_was_made(clusters, counts):
    paths = [(cluster.wire, path) for cluster in clusters for path in cluster.wire.methods()]
    missing = [path for wire, path in paths if path not in wire.called]
    expect(not missing, f"never called: {', '.join(missing)}")
    counts.append(f"{len(paths)} calls of both wires")


def every_operation_had_all_its_outcomes_and_no_other(clusters, counts):
    allowed = {
        (service, method, outcome)
        for service, methods in OUTCOMES.items()
        for method, outcomes in methods.items()
        for outcome in ["OK", *outcomes.split()]
    }
    for cluster in clusters:
        wire = cluster.wire
        named = {(service, method) for service, method, _ in allowed}
        operations = {tuple(path.split(".")[-1].split("/")) for path in wire.methods()}
        operations = {one for one in operations if one[0] in (*PRIMITIVES, "Session")}
        expect(named == operations, f"{wire}: {sorted(named ^ operations)} are not both")
        missing = allowed - wire.outcomes
        expect(not missing, f"{wire}: never answered: {sorted(missing)}")
        other = {one for one in wire.outcomes - allowed if one[2] not in ANYWHERE}
        expect(not other, f"{wire}: unexpected: {sorted(other)}")
    counts.append(f"{len(allowed)} outcomes of operations on each")


def every_outcome_and_code_was_met_or_has_a_reason(clusters, counts):
    for cluster in clusters:
        wire = cluster.wire
        seen = {outcome for _, _, outcome in wire.outcomes}
        _split(f"{wire}: outcome", set(wire.statuses_named()), seen, NO_OUTCOME)
        _split(f"{wire}: code", set(wire.codes_named()), wire.codes, NO_CODE[wire.name])
    reasons = " ".join(reason for codes in NO_CODE.values() for reason in codes.values())
    for test in re.findall(r"\S+::\S+", reasons):
        _exists(test)
    counts.append(f"{len(NO_CODE['S'])} and {len(NO_CODE['M'])} codes that S and M have not, with reasons")


def _split(what, everything, seen, reasons):
    """All are seen or have a reason; none has both."""
    missing = everything - seen - set(reasons)
    expect(not missing, f"{what} never met: {sorted(missing)}")
    both = seen & set(reasons)
    expect(not both, f"{what} met, with a reason why it cannot be: {sorted(both)}")


def every_way_to_fail_was_met_or_has_a_reason(held, counts):
    never = 0
    for situation, answer, shown in FAILURES:
        if shown.startswith("never: "):
            never += 1
            continue
        for name in shown.split():
            wires = ("wire S",) if name.startswith("S:") else ("wire S", "wire M")
            name = name.removeprefix("S:")
            for wire in wires:
                met = (wire, name) in held or ("both wires", name) in held
                expect(met, f"{situation}: {answer}: not met on {wire}: {name}")
    counts.append(f"{len(FAILURES) - never} ways to fail, {never} that cannot happen any more")


def every_event_was_told_or_has_a_test(clusters, watches, counts):
    wire = next(cluster.wire for cluster in clusters if cluster.wire.name == "S")
    core = wire.core("event")
    total = 0
    for service, message in (("Node", core.Event), ("Partition", core.PartitionEvent)):
        kinds = {field.name for field in message.DESCRIPTOR.oneofs_by_name["event"].fields}
        lost = PAGES[service] - kinds
        expect(not lost, f"{service}.Watch has no {sorted(lost)}")
        told = watches.kinds(service)
        missing = {kind for kind in kinds - told if (service, kind) not in EVENTS_ELSEWHERE}
        expect(not missing, f"{service}.Watch never told: {sorted(missing)}")
        total += len(kinds)
    for test in EVENTS_ELSEWHERE.values():
        _exists(test)
    counts.append(f"{total} events, {len(EVENTS_ELSEWHERE)} of them by Rust tests")


def _exists(test):
    file, name = test.split("::")
    path = REPOSITORY / file
    found = path.exists() and re.search(rf"\bfn {name}\(", path.read_text())
    expect(found, f"there is no test {test}")

"""Calls every RPC of both wires on nodes that run, as a stranger would: with Python's gRPC and stubs
that are generated from the contract.

    run.py HOST:PORT=PID HOST:PORT=PID HOST:PORT=PID

Client addresses and processes of three fresh nodes. One is paused for a while, one killed at the end.

INTEROP_ONLY: only checks with these words in their claim, beside those that form the groups.
One line for each check; exits with 1 when one fails or something of coverage.py was not met.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import stubs
from report import Report


def main(nodes_given):
    stubs.generate()
    # These need the stubs.
    import administration
    import contract
    import coverage
    import events
    import nodes
    import outage
    import session_stream
    import vectors
    from wire import Cluster, wires

    report = Report(os.environ.get("INTEROP_ONLY", ""))
    endpoints, processes = zip(*(node.split("=") for node in nodes_given))
    processes = [int(process) for process in processes]
    theirs = Cluster(wires()["M"], 1, endpoints, processes)
    ours = Cluster(wires()["S"], 2, endpoints, processes)
    ours.watches = events.Watches(ours)
    report.check("contract", vectors.the_stored_bytes_are_what_python_writes, wires())
    report.check(ours.wire, events.a_watch_of_a_node_begins_with_the_present, ours, always=True)
    for cluster in (theirs, ours):
        report.check(cluster.wire, nodes.nobody_is_served_before_groups_are_formed, cluster)
        report.check(cluster.wire, nodes.no_stream_is_refused_in_haste_before_groups_are_formed, cluster)
    report.check(ours.wire, nodes.groups_are_formed_in_both_forms, ours, always=True)
    report.check(ours.wire, events.a_watch_of_a_partition_begins_with_the_present, ours, always=True)
    report.check(ours.wire, events.a_watch_of_a_partition_that_is_not_there_is_refused, ours)
    for check in nodes.CHECKS:
        report.check(ours.wire, check, ours)
    report.check_all(ours, administration)
    report.check_all(ours, session_stream)
    with ThreadPoolExecutor() as pool:
        parts = [(part, cluster) for cluster in (theirs, ours) for part in (everything, waits)]
        list(pool.map(lambda part: part[0](report, part[1]), parts))
    report.check("both wires", contract.one_state_is_behind_both_wires, ours, theirs)
    report.check(ours.wire, contract.an_exact_set_may_stand_for_a_filter, ours)
    report.check(ours.wire, contract.an_exact_set_ends_the_streams_that_it_does_not_hold, ours)
    report.check(
        "both wires",
        outage.events_have_no_gap_and_no_repeat_when_the_leader_is_killed,
        ours,
        theirs,
    )
    report.check(ours.wire, events.events_are_numbered_without_gap_and_of_their_partition, ours)
    if not report.only:
        coverage.check(report, (theirs, ours), ours.watches)
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0


def waits(report, cluster):
    """What takes long, beside all the others."""
    import waits

    report.check_all(cluster, waits)


def everything(report, cluster):
    """All that both wires serve alike."""
    import counters
    import errors
    import maps
    import others
    import sessions
    import streams

    for module in (counters, maps, others, sessions, streams, errors):
        report.check_all(cluster, module)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))

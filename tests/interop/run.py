"""Calls every unary RPC of both wires on nodes that run, as a stranger would: with Python's gRPC and
stubs that are generated from the contract.

    run.py HOST:PORT HOST:PORT HOST:PORT      client addresses of three fresh nodes

INTEROP_ONLY: only checks with these words in their claim, beside those that form the groups.
One line for each check; exits with 1 when one fails or a call of the contract was not made.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import stubs
from report import Report


def main(endpoints):
    stubs.generate()
    # These need the stubs.
    import contract
    import nodes
    import vectors
    from wire import Cluster, wires

    report = Report(os.environ.get("INTEROP_ONLY", ""))
    theirs, ours = Cluster(wires()["M"], 1, endpoints), Cluster(wires()["S"], 2, endpoints)
    report.check("contract", vectors.the_stored_bytes_are_what_python_writes, wires())
    report.check(theirs.wire, nodes.nobody_is_served_before_groups_are_formed, theirs)
    report.check_all(ours, nodes, always=nodes.groups_are_formed_in_both_forms)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda cluster: everything(report, cluster), (theirs, ours)))
    report.check("both wires", contract.one_state_is_behind_both_wires, ours, theirs)
    report.check(ours.wire, contract.an_exact_set_may_stand_for_a_filter, ours)
    if not report.only:
        report.check("contract", contract.every_outcome_and_code_was_seen, [theirs, ours])
        report.check("contract", contract.every_unary_call_was_made, [theirs, ours])
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0


def everything(report, cluster):
    """All that both wires serve alike."""
    import counters
    import errors
    import maps
    import others
    import sessions

    for module in (counters, maps, others, sessions, errors):
        report.check_all(cluster, module)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))

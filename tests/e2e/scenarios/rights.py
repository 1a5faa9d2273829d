#!/usr/bin/env python3
"""Compares what the operator asked the API server for with what its roles allow.

    rights.py AUDIT_LOG NAMESPACE <roles, as JSON objects one after the other

Fails for a verb that is allowed and was never used, and for a request that was forbidden."""

import json
import sys

# (group, resource, verb) that no request shows, with the reason.
UNSEEN = {
    ("multiraft.atomix.io", "multiraftclusters/finalizers", "update"):
        "asked for by the admission plugin OwnerReferencesPermissionEnforcement alone, such as OpenShift's",
    ("events.k8s.io", "events", "patch"): "for an event that comes again within minutes",
    **{("cert-manager.io", "certificates", verb): "used in tests/e2e/tls/cert-manager.sh"
       for verb in ["get", "create", "patch", "delete"]},
}


def allowed(text):
    decoder, found, at = json.JSONDecoder(), set(), 0
    while at < len(text):
        role, at = decoder.raw_decode(text, at)
        while at < len(text) and text[at].isspace():
            at += 1
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    found |= {(group, resource, verb) for verb in rule["verbs"]}
    return found


def requests(log, namespace):
    """What the operator asked for; refusals apart. Leases of the tests' own namespaces are no part."""
    user, used, refused = f"system:serviceaccount:{namespace}:multiraft-operator", set(), set()
    for line in log:
        event = json.loads(line)
        target = event.get("objectRef", {})
        if event["user"]["username"] != user or "resource" not in target:
            continue
        if target["resource"] == "leases" and target.get("namespace") != namespace:
            continue
        resource = "/".join(filter(None, [target["resource"], target.get("subresource")]))
        entry = (target.get("apiGroup", ""), resource, event["verb"])
        forbidden = event.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid"
        # A namespace that is being deleted forbids new objects; that is no lack of rights.
        (refused if forbidden else used).add(entry)
        # An apply that makes the object needs the right to create it, too.
        if entry[2] == "patch" and event.get("responseStatus", {}).get("code") == 201:
            used.add((*entry[:2], "create"))
    return used, refused


def main():
    rules = allowed(sys.stdin.read())
    with open(sys.argv[1], encoding="utf-8") as log:
        used, refused = requests(log, sys.argv[2])
    unused = sorted(rules - used - UNSEEN.keys())
    for kind, entries in [("unused", unused), ("refused", sorted(refused)), ("used", sorted(used))]:
        for group, resource, verb in entries:
            print(f"{kind}: {verb} {resource}.{group}")
    for entry, reason in UNSEEN.items():
        print(f"not to be seen: {entry[2]} {entry[1]}.{entry[0]}: {reason}")
    print(f"FIGURE {len(rules)} rights, {len(used & rules)} used, {len(unused)} unused, {len(refused)} refused")
    sys.exit(1 if unused or refused or not used else 0)


main()

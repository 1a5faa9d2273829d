#!/usr/bin/env python3
"""Writes the table of values in the chart's README from values.yaml: each value with its default and
the comment above it. With --check it only says whether the table is as it should be."""

import pathlib
import re
import sys

CHART = pathlib.Path(__file__).parent / "multiraft-operator"
BEGIN, END = "<!-- values, by charts/readme.py -->\n", "<!-- end of values -->\n"


def rows(lines):
    """(path, default, comment) of every value that is no section."""
    path, comment, found = [], [], []
    for number, line in enumerate(lines):
        text = line.strip()
        if text.startswith("#"):
            comment.append(text.lstrip("# "))
            continue
        if not text:
            comment = []
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name, value = (part.strip() for part in text.split(":", 1))
        path[depth:] = [name]
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if value:
            found.append((".".join(path), value, " ".join(comment)))
            comment = []
        elif not following.startswith(" " * (2 * depth + 1)):
            sys.exit(f"values.yaml:{number + 1}: {'.'.join(path)} has no default")
    return found


def table():
    lines = (CHART / "values.yaml").read_text().splitlines()
    body = "".join(f"| `{path}` | `{value}` | {comment} |\n" for path, value, comment in rows(lines))
    return "| value | default | meaning |\n|---|---|---|\n" + body


def main():
    readme = CHART / "README.md"
    text = readme.read_text()
    fresh = re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: BEGIN + table() + END, text, flags=re.S)
    if BEGIN not in text:
        sys.exit(f"{readme}: the marks around the table are gone")
    if "--check" not in sys.argv:
        readme.write_text(fresh)
    elif fresh != text:
        sys.exit(f"{readme}: not what values.yaml says: run charts/readme.py")


main()

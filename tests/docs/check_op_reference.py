#!/usr/bin/env python3
"""Holds docs/op_reference.md against the schema, the builder and the backends.

usage: check_op_reference.py SOURCE_TREE

Each op of the schema has a section of its name and no other section exists; its second line tells the builder's
functions, the op's number and the devices whose backend runs it; its text names every field of its attributes.
"""

import pathlib
import re
import sys

ATTRIBUTES = re.compile(r"\b(\w+Attrs)\b")


def enumerators(schema, name):
    body = re.search(rf"enum {name} : \w+ {{(.*?)\n?}}", schema, re.S).group(1)
    return {n: int(v) for n, v in re.findall(r"^\s*(\w+) = (\d+)", re.sub(r"//.*", "", body).replace(",", "\n"), re.M)}


def fields(schema, table):
    body = re.search(rf"table {table} {{(.*?)\n}}", schema, re.S).group(1)
    return set(re.findall(r"^\s*(\w+):", body, re.M))


def devices_with(root, op):
    """Backends whose sources handle the op."""
    found = []
    for folder in sorted((root / "ops" / "backends").iterdir()):
        if folder.name != "null" and any(f"OpKind::{op}:" in f.read_text() for f in folder.rglob("*.cpp")):
            found.append(folder.name)
    return found


def problems(root):
    schema = (root / "schemas/program.fbs").read_text()
    builder = (root / "kernel/sdk/troupe/sdk/builder.hpp").read_text()
    page = (root / "docs/op_reference.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", page, re.S | re.M))
    ops = enumerators(schema, "OpKind")
    ops.pop("none")
    for op in sorted(ops.keys() ^ sections.keys()):
        yield f"{op}: {'no section' if op in ops else 'not in the schema'}"
    for op in sorted(ops.keys() & sections.keys()):
        head, _, text = sections[op].partition("\n")
        functions, number, devices = [part.strip() for part in head.split("·")]
        if int(number) != ops[op]:
            yield f"{op}: number {number}, the schema says {ops[op]}"
        if devices.split(", ") != devices_with(root, op):
            yield f"{op}: devices {devices}, the backends say {', '.join(devices_with(root, op)) or 'none'}"
        for function in re.findall(r"b\.(\w+)[(<]", functions):
            if not re.search(rf"^  \S.* {function}\(", builder, re.M):
                yield f"{op}: the builder has no {function}()"
        if not functions.startswith("`b."):
            yield f"{op}: expected the builder's functions, found {functions}"
        for table in ATTRIBUTES.findall(text):
            for field in sorted(fields(schema, table)):
                if f"`{field}`" not in text:
                    yield f"{op}: {table}.{field} is not explained"
    for table in ATTRIBUTES.findall(re.search(r"union OpAttrs {(.*?)}", schema, re.S).group(1)):
        if not any(table in text for text in sections.values()):
            yield f"{table}: no section names it"
    for value in enumerators(schema, "Activation"):
        if f"| {value} |" not in page:
            yield f"activation {value}: no formula"


def main():
    found = list(problems(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "docs/op_reference.md: fits")
    sys.exit(bool(found))


main()

#!/usr/bin/env python3
"""Walks through docs/write_a_module.md as a reader does: runs its commands, makes its changes, in their order, against the installed package.

usage: walk.py DOCUMENT PREFIX WORK_FOLDER EXPECTED REFERENCE

```sh blocks are run as they stand, with their <names> filled in. ```diff blocks change llama/llama.cpp: hunks that are separated by
lines beginning with @@, each of which must fit in exactly one place; at the end of a step the module is built and its Program
printed. After the step that installs the module the file must be EXPECTED. REFERENCE is a checkpoint with its goldens. Prints the
seconds of each command.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

SOURCE = pathlib.Path("llama/llama.cpp")
AFTER_A_STEP = ["cmake --build llama/build",
                "troupe program --config llama/config.json --module llama/build/lib/troupe/modules/llama.so"]


def steps_of(document):
    """[(heading, [(language, [line, ...]), ...]), ...] of the numbered headings of the second level."""
    steps, block = [], None
    for line in document.splitlines():
        if block is not None:
            if line == "```":
                block = None
            else:
                block.append(line)
        elif line.startswith("## "):
            steps.append((line[3:], []))
        elif line in ("```sh", "```diff"):
            block = []
            steps[-1][1].append((line[3:], block))
    numbered = [step for step in steps if re.match(r"\d+\. ", step[0])]
    for number, (heading, _) in enumerate(numbered, 1):
        if not heading.startswith(f"{number}. "):
            sys.exit(f"expected step {number}, found: {heading}")
    if len(numbered) < 2 or not any(kind == "sh" for kind, _ in numbered[0][1]):
        sys.exit(f"expected numbered steps with commands, found {len(numbered)} steps")
    return numbered


def hunks_of(lines, heading):
    hunks = [[]]
    for line in lines:
        if line.startswith("@@"):
            hunks.append([])
        elif line[:1] in ("+", "-", " "):
            hunks[-1].append(line)
        else:
            sys.exit(f"{heading}: a line of a change begins with none of +, - and blank: {line}")
    return [hunk for hunk in hunks if hunk]


def change(hunk, heading):
    text = SOURCE.read_text()
    before = "".join(line[1:] + "\n" for line in hunk if line[0] != "+")
    after = "".join(line[1:] + "\n" for line in hunk if line[0] != "-")
    places = text.count("\n" + before) + text.startswith(before)
    if not before or places != 1:
        sys.exit(f"{heading}: a change fits in {places} places, expected 1:\n{before}")
    SOURCE.write_text(text.replace(before, after, 1))


def run(command, names):
    for name, value in names.items():
        command = command.replace(name, value)
    begin = time.monotonic()
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f"{time.monotonic() - begin:7.2f} s  {command}", flush=True)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nended with {done.returncode}: {command}")
    return done.stdout


def main():
    document, prefix, work, expected, reference = (pathlib.Path(a).resolve() for a in sys.argv[1:])
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    os.chdir(work)
    os.environ.update(PATH=f"{prefix}/bin:{os.environ['PATH']}", CMAKE_PREFIX_PATH=str(prefix), XDG_CACHE_HOME=str(work / "cache"),
                      XDG_CONFIG_HOME=str(work / "config"),
                      CXXFLAGS="-Wall -Wextra -Wno-missing-field-initializers -Werror")
    names = {"<checkpoint>": str(reference), "<folder>": str(reference / "goldens"), "<prefix>": str(work / "installed")}
    begin = time.monotonic()
    steps = steps_of(document.read_text())
    installs = [heading for heading, _ in steps if heading.endswith("install it")]
    if len(installs) != 1:
        sys.exit(f"{document}: expected one step whose heading ends with 'install it', found {len(installs)}")
    for heading, blocks in steps:
        print(heading)
        changes = [lines for kind, lines in blocks if kind == "diff"]
        for lines in changes:
            for hunk in hunks_of(lines, heading):
                change(hunk, heading)
        if changes:
            for command in AFTER_A_STEP:
                run(command, names)
        for kind, lines in blocks:
            for command in lines if kind == "sh" else []:
                print(run(command, names), end="")
        if heading in installs and SOURCE.read_text() != expected.read_text():
            sys.exit(f"{document}: after the step {heading} the module is not {expected}")
    print(f"{time.monotonic() - begin:7.2f} s in all")


main()

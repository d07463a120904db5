#!/usr/bin/env python3
"""Follows docs/write_a_module.md: applies each step's changes to the template and writes the file of every step.

usage: steps.py DOCUMENT TEMPLATE_SOURCE OUT_FOLDER EXPECTED_LAST

A step is a heading of the second level with a number. Its changes are the ```diff blocks: hunks that are separated by lines
beginning with @@, each of which must fit in exactly one place. The last step must be the file EXPECTED_LAST.
"""

import pathlib
import re
import sys


def steps_of(document):
    """[(heading, [hunk, ...]), ...]; a hunk is a list of lines."""
    steps, inside = [], False
    for line in document.splitlines():
        if not inside and re.match(r"## \d+\. ", line):
            steps.append((line[3:], []))
        elif line == "```diff":
            inside = True
            steps[-1][1].append([])
        elif inside and line == "```":
            inside = False
        elif inside and line.startswith("@@"):
            steps[-1][1].append([])
        elif inside:
            if line[:1] not in ("+", "-", " "):
                sys.exit(f"{steps[-1][0]}: a line of a change begins with none of +, - and blank: {line}")
            steps[-1][1][-1].append(line)
    return steps


def apply(text, hunk, heading):
    before = "".join(line[1:] + "\n" for line in hunk if line[0] != "+")
    after = "".join(line[1:] + "\n" for line in hunk if line[0] != "-")
    places = text.count("\n" + before) + text.startswith(before)
    if not before or places != 1:
        sys.exit(f"{heading}: a change fits in {places} places, expected 1:\n{before}")
    return text.replace(before, after, 1)


def main():
    document, template, out, expected = map(pathlib.Path, sys.argv[1:])
    text = template.read_text().replace("my_model", "llama").replace("MyModelForCausalLM", "LlamaForCausalLM")
    steps = steps_of(document.read_text())
    if len(steps) < 2:
        sys.exit(f"{document}: expected numbered steps, found {len(steps)}")
    for number, (heading, hunks) in enumerate(steps, 1):
        if not heading.startswith(f"{number}. "):
            sys.exit(f"{document}: expected step {number}, found: {heading}")
        for hunk in hunks:
            text = apply(text, hunk, heading)
        (out / f"step_{number}.cpp").write_text(text)
    if text != expected.read_text():
        sys.exit(f"{document}: its last step is not {expected}")


main()

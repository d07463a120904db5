"""Renders chat templates with python3-jinja2 in the environment that transformers uses, for comparison.

usage: jinja_oracle.py TEMPLATE_FOLDER SNIPPETS

Prints one JSON array: {"name", "source", "set", "variables"} with "rendered", or with "error" and "kind".
A snippet is one line; a backslash followed by n stands for a newline.
"""
import json
import pathlib
import sys
from datetime import datetime

try:
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ImportError:
    sys.exit("python3-jinja2 is not installed: apt-get install python3-jinja2")


class Generation(Extension):
    """{% generation %} marks what the assistant said; rendering ignores it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return env


def render(env, name, source, set_name, variables):
    case = {"name": name, "source": source, "set": set_name, "variables": variables}
    try:
        case["rendered"] = env.from_string(source).render(**variables)
    except Exception as e:  # noqa: BLE001: whatever the reference raises is an expected outcome
        case["error"] = str(e)
        case["kind"] = type(e).__name__
    return case


def main():
    folder, snippets = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    sets = json.loads((folder / "variables.json").read_text(encoding="utf-8"))
    env = environment()
    cases = []
    for file in sorted(folder.glob("*.jinja")):
        source = file.read_text(encoding="utf-8")
        cases += [render(env, file.name, source, name, variables) for name, variables in sets.items()]
    for file in sys.argv[3:]:
        config = json.loads(pathlib.Path(file).read_text(encoding="utf-8"))
        source = config["chat_template"]
        tokens = {key: config.get(key) for key in ("bos_token", "eos_token", "pad_token")}
        cases += [render(env, file, source, name, {**variables, **tokens}) for name, variables in sets.items()]
    for number, line in enumerate(snippets.read_text(encoding="utf-8").splitlines(), 1):
        if line and not line.startswith("##"):
            cases.append(render(env, f"snippet {number}", line.replace("\\n", "\n"), "snippets", sets["tools"]))
    json.dump(cases, sys.stdout)


if __name__ == "__main__":
    main()

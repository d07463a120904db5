"""Generates the wire classes from the schemas with flatc before packaging."""

import pathlib
import subprocess
import tempfile

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = pathlib.Path(__file__).resolve().parent
SCHEMAS = HERE.parent.parent / "schemas"


class BuildWithWire(build_py):
    def run(self):
        target = pathlib.Path(self.build_lib) / "troupe" / "wire"
        self.packages = [p for p in self.packages if p != "troupe.wire"]
        super().run()
        with tempfile.TemporaryDirectory() as out:
            files = [str(SCHEMAS / name) for name in ("common.fbs", "client.fbs")]
            subprocess.run(["flatc", "--python", "--gen-object-api", "-o", out, *files], check=True)
            target.mkdir(parents=True, exist_ok=True)
            for module in (pathlib.Path(out) / "troupe" / "wire").glob("*.py"):
                (target / module.name).write_text(module.read_text())


setup(cmdclass={"build_py": BuildWithWire})

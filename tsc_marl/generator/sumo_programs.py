"""Calls of SUMO's programs, and their files without dates."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from tsc_marl.errors import UserError
from tsc_marl.sim.engine import binary


def call(program: str, options: Mapping[str, str], advice: str = "use another seed", files: Sequence[str] = ()) -> list[str]:
    """Run one of SUMO's programs, or of its tools in Python, and return its warnings.

    Args:
        program: such as `netconvert`, or a path below SUMO's folder of tools, such as `randomTrips.py`.
        options: by their names; an empty value is that of a flag.
        advice: what to do where it refuses.
        files: that it takes without the name of an option.

    Raises:
        UserError: with its reason, when it refuses.
    """
    home = Path(binary("netconvert")).parents[1]
    words = [word for key, value in options.items() for word in (f"--{key}", value) if word]
    words += files
    started = [sys.executable, str(home / "tools" / program)] if program.endswith(".py") else [binary(program)]
    own = {"SUMO_HOME": str(home), "PROJ_DATA": str(home / "data" / "proj"), "PROJ_LIB": str(home / "data" / "proj")}
    done = subprocess.run(
        [*started, *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env={**os.environ, **own},
    )
    lines = [line.strip() for line in (*done.stderr.splitlines(), *done.stdout.splitlines())]
    if done.returncode:
        raise UserError(f"{program} refuses it: {_reason(lines, done.returncode)}; {advice}")
    return [line for line in lines if line.startswith("Warning")]


def _reason(lines: Sequence[str], code: int) -> str:
    """Return the first error; of a tool in Python that stopped, its last line."""
    written = [line for line in lines if line]
    errors = (" ".join(written[k : k + 1 + line.endswith(":")]) for k, line in enumerate(written) if line.startswith("Error"))
    return next(errors, written[-1] if written else f"exit code {code}")[:200]


def write(root: ElementTree.Element, path: Path) -> None:
    """Write XML; without the comments of SUMO's programs, which have the date."""
    ElementTree.indent(root, " ")
    ElementTree.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)

"""Calls of SUMO's programs, and their files without dates."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from tsc_marl.errors import UserError
from tsc_marl.sim.engine import binary


def call(program: str, options: Mapping[str, str]) -> None:
    """Run one of SUMO's programs.

    Raises:
        UserError: with its reason, when it refuses.
    """
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    done = subprocess.run([binary(program), *words], capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("Error")), done.stderr.strip()[:200])
        raise UserError(f"{program} refuses it: {reason}; use another seed")


def write(root: ElementTree.Element, path: Path) -> None:
    """Write XML; without the comments of SUMO's programs, which have the date."""
    ElementTree.indent(root, " ")
    ElementTree.ElementTree(root).write(path, encoding="UTF-8", xml_declaration=True)

"""Where the program finds its own files, and where it keeps those of its user."""

import os
import re
from importlib import resources
from pathlib import Path

from tsc_marl.errors import UserError

ROOT = Path(__file__).parents[1]
"""The folder of the package: the clone, or site-packages."""


def home() -> Path:
    """Return the folder of runs, store, artifacts and reports: TSC_MARL_HOME, or the current folder."""
    return Path(os.environ.get("TSC_MARL_HOME") or ".").absolute()


def shipped(name: str) -> Path:
    """Return a folder that comes with the program, `networks` or `configs`: inside an installed package, else in the clone."""
    inside = Path(str(resources.files("tsc_marl"))) / name
    return inside if inside.is_dir() else ROOT / name


NETWORKS, CONFIGS = shipped("networks"), shipped("configs")


def file_name(name: str) -> str:
    """Return a name as a file name that every file system takes: letters, digits, `.`, `_` and `-`.

    Every other character becomes its hexadecimal code between two `-`, so that different names stay different.

    >>> file_name("jointq-one_step_team"), file_name("mine.rules:Second")
    ('jointq-one_step_team', 'mine.rules-3a-Second')
    """
    return re.sub(r"[^A-Za-z0-9._-]", lambda match: f"-{ord(match[0]):x}-", name)


def make_folder(out: Path) -> None:
    """Make the folder of the option `out`, before anything is measured that would be lost without it.

    Raises:
        UserError: when it cannot be made, or when SUMO could not read its name.
    """
    if "," in str(out):
        raise UserError(f"out {out} has a comma, where SUMO ends a file name; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out {out} cannot be made ({error.strerror}); give another folder") from None

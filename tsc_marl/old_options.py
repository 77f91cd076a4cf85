"""Old names of options: accepted for one version, with one line that gives today's name."""

import logging
from collections.abc import Sequence

from tsc_marl.tracking import renames

logger = logging.getLogger(__name__)

VERB_OPTIONS = {"stress": "disturbances", "controller": "policy", "run": "policy"}
OPTIONS = {f"--{old}": f"--{today.replace('_', '-')}" for old, today in (renames.COMMAND_SETTINGS | VERB_OPTIONS).items()}
"""Options of the verbs, those included that a training's settings name."""
VERBS = {"nets": "networks"}


def verb(name: str) -> str:
    """Return today's name of a verb; report an old one."""
    today = VERBS.get(name, name)
    if today != name:
        logger.warning(f"{name} is now called {today}; the old name works until the next version")
    return today


def replace(words: Sequence[str], origin: str = "") -> list[str]:
    """Return the words of a command line with today's names; report each old one once.

    Args:
        words: options and values.
        origin: file that the words come from, for the report.
    """
    today = renames.words([_option(word) for word in words])
    changed = dict(_difference(old, new) for old, new in zip(words, today, strict=True) if _plain(old) != _plain(new))
    if changed:
        names = ", ".join(f"{old} is now {new}" for old, new in changed.items())
        logger.warning(f"{origin}{': ' if origin else ''}{names}; old names work until the next version")
    return today


def _option(word: str) -> str:
    """Return a word with today's name of its option, settings of algorithms and demand aside."""
    name, equals, value = word.partition("=")
    group, dot, setting = name.removeprefix("--").partition(".")
    if name.startswith("--") and dot and group in renames.GROUPS:
        name = f"--{renames.GROUPS[group]}.{setting}"
    return OPTIONS.get(name, name) + equals + value


def _difference(old: str, new: str) -> tuple[str, str]:
    """Return the part of a word that changed: the option without its value, if its name changed."""
    names = old.partition("=")[0], new.partition("=")[0]
    return names if old.startswith("--") and names[0] != names[1] else (old, new)


def _plain(word: str) -> str:
    """Return a word with underscores only: both spellings of an option are today's."""
    return word.replace("-", "_")

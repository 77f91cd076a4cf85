"""What SUMO warns of in an episode: a file of its messages, counted by kind."""

import re
from collections import Counter
from pathlib import Path

KINDS = (
    (r"Vehicle '.*' (ends teleporting|teleports beyond)", ""),
    (r"Teleporting .*collision", "teleports after collisions"),
    (r"Teleporting ", "teleports"),
    (r"Removing .*collision", "removals after collisions"),
    (r".*; .*collision with", "collisions"),
    (r"Vehicle '.*' performs emergency braking", "emergency brakings"),
    (r"Vehicle '.*' performs emergency stop", "emergency stops"),
    (r"Vehicle '.*' will not be able to depart", "vehicles that could not depart at their speed"),
)
"""Patterns of SUMO's messages, and the plural of their kind; an empty one is the end of what another message reports."""
DETAIL = re.compile(r"[,;.]? (lane|edge|time|decel|gap)=.*|\. .*")
"""The end of a message, which differs from one to the next."""
VALUE = re.compile(r"'[^']*'|-?\d[\d.]*")
NAMED = re.compile(r"'([^']+)'.*\btime=([\d.]+\d)")


def file_name(seed: int | str) -> str:
    """Return the name of the file with SUMO's messages of an episode."""
    return f"messages_{seed}.txt"


def count(path: Path) -> Counter[str]:
    """Return how often SUMO warned, by kind; what has no name of its own counts by its text without names and numbers.

    A file that is not there counts as empty.
    """
    return Counter(kind for kind in map(_kind, _messages(path)) if kind)


def last_error(path: Path) -> str:
    """Return the last error in the file as one line; empty without one. Of options that SUMO cannot read it is the first."""
    errors = [" ".join(error.split()) for error in re.findall(r"^Error: (.*(?:\n .*)*)", _read(path), re.MULTILINE)]
    return next((error for error in errors if error.startswith("On processing option")), errors[-1] if errors else "")


def first_times(path: Path) -> dict[str, float]:
    """Return by name of a vehicle the time [s] of the first message on it."""
    times: dict[str, float] = {}
    for message in _messages(path):
        if named := NAMED.search(message):
            times.setdefault(named[1], float(named[2]))
    return times


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _messages(path: Path) -> list[str]:
    """Return the warnings and errors, the first line of each."""
    return [line.partition(": ")[2] for line in _read(path).splitlines() if line.startswith(("Warning: ", "Error: "))]


def _kind(message: str) -> str:
    for pattern, kind in KINDS:
        if re.match(pattern, message):
            return kind
    return f'"{VALUE.sub("…", DETAIL.sub("", message)).rstrip(".")}"'

"""The one exception that a user is meant to see."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user: one line saying what was given, what was expected, what to do. Exit code 2."""


def unknown(kind: str, given: str, available: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist, with the nearest name that does.

    >>> str(unknown("network", "gird4x4", ["grid4x4", "cross"]))
    'network gird4x4 not found; did you mean grid4x4? (available: cross, grid4x4)'
    """
    names = sorted(available)
    near = difflib.get_close_matches(given, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    there = f"available: {', '.join(names)}" if names else "there is none"
    return UserError(f"{kind} {given} not found{hint} ({there})")

"""The one exception that a user is meant to see."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user, in one line: the value, what is expected, what to do. The command line ends with exit code 2."""


def unknown(kind: str, name: str, available: Iterable[str]) -> UserError:
    """Return the error for a name that does not exist, with the nearest name that does.

    Args:
        kind: of the thing that has the name, such as `network`.
        name: the wrong name.
        available: the names that exist.

    >>> str(unknown("network", "gird4x4", ["grid4x4", "cross"]))
    'network gird4x4 not found; did you mean grid4x4? (available: cross, grid4x4)'
    """
    names = sorted(available)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    choice = f"available: {', '.join(names)}" if names else "there is none"
    return UserError(f"{kind} {name} not found{hint} ({choice})")

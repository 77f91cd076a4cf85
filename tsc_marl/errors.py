"""The one exception that a user is meant to see."""

import difflib
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

MOST_NAMES = 40
"""Longest list of names in a message."""
Item = TypeVar("Item", bound=Hashable)
Result = TypeVar("Result")


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
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    choice = f"available: {', '.join(names[:MOST_NAMES])}{more}" if names else "there is none"
    return UserError(f"{kind} {name} not found{hint} ({choice})")


def try_each(items: Iterable[Item], action: Callable[[Item], Result]) -> tuple[dict[Item, Result], dict[Item, UserError]]:
    """Do the same with every item; one that is refused does not end the batch.

    Returns the results and the errors, by item.
    """
    results: dict[Item, Result] = {}
    errors: dict[Item, UserError] = {}
    for item in items:
        try:
            results[item] = action(item)
        except UserError as error:
            errors[item] = error
    return results, errors


def joined(errors: Mapping[str, UserError], total: int, outcome: str) -> UserError:
    """Return the one error of a batch; where every item has the same reason, as for a single item, that reason alone.

    >>> str(joined({"town": UserError("no signal")}, 3, "networks cannot be listed"))
    '1 of 3 networks cannot be listed: town: no signal'
    """
    if len(errors) == total and len(set(map(str, errors.values()))) == 1:
        return next(iter(errors.values()))
    reasons = "; ".join(f"{item}: {error}" for item, error in errors.items())
    return UserError(f"{len(errors)} of {total} {outcome}: {reasons}")

"""Observations; one file is one observation and the file's name is its name on the command line."""

import sys

from tsc_marl import plugins
from tsc_marl.errors import UserError, unknown
from tsc_marl.sim.observations.base import Observation
from tsc_marl.sim.observations.sumo_rl import from_function_class
from tsc_marl.sim.sumo_rl_adapter import imported

__all__ = ["PATHS", "Observation", "available", "check", "find"]

PATHS = "the import path package.module:Name of an Observation, or of an ObservationFunction of sumo-rl"
"""What a user may name beside the files."""


def available() -> list[str]:
    """Return the names of all observations, with dashes."""
    return [name.replace("_", "-") for name in plugins.available(sys.modules[__name__])]


def check(name: str) -> None:
    """Refuse a name without a file; an import path is not imported.

    Raises:
        UserError: with the nearest name.
    """
    if ":" not in name and name.replace("_", "-") not in available():
        raise unknown("observation", name, available())


def find(name: str) -> type[Observation]:
    """Return the class of an observation.

    Args:
        name: a file of this folder, or the import path `package.module:Name` of an `Observation` or of an
            `ObservationFunction` of sumo-rl.

    Raises:
        UserError: for a name without a class.
    """
    check(name)
    if ":" not in name:
        return plugins.find(sys.modules[__name__], name.replace("-", "_"), Observation, "observation")
    value = imported(name, "observation")
    if isinstance(value, type) and issubclass(value, Observation):
        return value
    if (adapter := from_function_class(value, name)) is None:
        raise UserError(f"observation {name} is not a sumo_rl ObservationFunction class, nor an Observation of tsc_marl")
    return adapter

"""Rewards; one file is one reward and the file's name is its name on the command line."""

import sys

from tsc_marl import plugins
from tsc_marl.errors import UserError, unknown
from tsc_marl.sim.rewards._sumo_rl import from_function
from tsc_marl.sim.rewards.base import Reward
from tsc_marl.sim.sumo_rl_adapter import imported

__all__ = ["PATHS", "Reward", "available", "check", "find"]

PATHS = "the import path package.module:name of a Reward, or of a function of a TrafficSignal of sumo-rl"
"""What a user may name beside the files."""


def available() -> list[str]:
    """Return the names of all rewards, with dashes."""
    return [name.replace("_", "-") for name in plugins.available(sys.modules[__name__])]


def check(name: str) -> None:
    """Refuse a name without a file; an import path is not imported.

    Raises:
        UserError: with the nearest name.
    """
    if ":" not in name and name.replace("_", "-") not in available():
        raise unknown("reward", name, available())


def find(name: str) -> type[Reward]:
    """Return the class of a reward.

    Args:
        name: a file of this folder, or the import path `package.module:name` of a `Reward` or of a function of sumo-rl's
            `TrafficSignal`.

    Raises:
        UserError: for a name without a class.
    """
    check(name)
    if ":" not in name:
        return plugins.find(sys.modules[__name__], name.replace("-", "_"), Reward, "reward")
    value = imported(name, "reward")
    if isinstance(value, type) and issubclass(value, Reward):
        return value
    if not callable(value):
        raise UserError(f"reward {name} is not callable; expected a Reward, or a function of a sumo_rl TrafficSignal")
    return from_function(value, name)

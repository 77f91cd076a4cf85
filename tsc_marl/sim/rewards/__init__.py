"""Rewards; one file is one reward and the file's name is its name on the command line."""

import sys

from tsc_marl.sim.rewards._sumo_rl import from_function
from tsc_marl.sim.rewards.base import Reward
from tsc_marl.sim.sumo_rl_adapter import SumoRlKind

__all__ = ["PATHS", "Reward", "available", "check", "find"]

PATHS = "the import path package.module:name of a Reward, or of a function of a TrafficSignal of sumo-rl"
"""What a user may name beside the files."""
_NAMES = SumoRlKind(sys.modules[__name__], Reward, "reward", from_function)
available, check, find = _NAMES.available, _NAMES.check, _NAMES.find

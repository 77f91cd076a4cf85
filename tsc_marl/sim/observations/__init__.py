"""Observations; one file is one observation and the file's name is its name on the command line."""

import sys

from tsc_marl.sim.observations.base import Observation
from tsc_marl.sim.observations.sumo_rl import from_function_class
from tsc_marl.sim.sumo_rl_adapter import SumoRlKind

__all__ = ["PATHS", "Observation", "available", "check", "find"]

PATHS = "the import path package.module:Name of an Observation, or of an ObservationFunction of sumo-rl"
"""What a user may name beside the files."""
_NAMES = SumoRlKind(sys.modules[__name__], Observation, "observation", from_function_class)
available, check, find = _NAMES.available, _NAMES.check, _NAMES.find

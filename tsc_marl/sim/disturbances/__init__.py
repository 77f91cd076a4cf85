"""What goes wrong on the street; one file is one disturbance and the file's name is its name on the command line.

Detectors under test are disturbed, for trained policies and classical controllers alike; rewards and metrics never are.
"""

import sys

from tsc_marl import plugins
from tsc_marl.errors import UserError, unknown
from tsc_marl.plugins import blamed
from tsc_marl.sim.disturbances._breakdown import Breakdown
from tsc_marl.sim.disturbances._detectors import FROZEN_PREFIX, FaultyDetectors, select
from tsc_marl.sim.disturbances.base import Disturbance

__all__ = ["FROZEN_PREFIX", "PATHS", "Breakdown", "Disturbance", "FaultyDetectors", "available", "find", "select"]

PATHS = "the import path package.module:NAME of a Disturbance or of a subclass of it"
"""What a user may name beside the files."""


def available() -> list[str]:
    """Return the names of all files, with dashes."""
    return [name.replace("_", "-") for name in plugins.available(sys.modules[__name__])]


def find(name: str) -> Disturbance:
    """Return a disturbance: a file of this folder, or an import path `package.module:NAME` of an object or a subclass.

    Raises:
        UserError: for a name without a disturbance, or a class that cannot be constructed without arguments.
    """
    if ":" in name:
        value = plugins.imported(name, "disturbance")
    elif name.replace("_", "-") in available():
        value = plugins.find(sys.modules[__name__], name.replace("-", "_"), Disturbance, "disturbance")
    else:
        raise unknown("disturbance", name, available())
    if isinstance(value, Disturbance):
        return value
    if not (isinstance(value, type) and issubclass(value, Disturbance)):
        raise UserError(
            f"disturbance {name}: expected an object or a subclass of {Disturbance.__module__}.Disturbance; got {value!r}"
        )
    with blamed("disturbance", name, value):
        try:
            return value()
        except UserError as error:
            raise UserError(f"disturbance {name}: {error}") from error

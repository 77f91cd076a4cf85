"""What goes wrong on the street; one file is one disturbance and the file's name is its name on the command line.

Detectors under test are disturbed, for trained policies and classical controllers alike; rewards and metrics never are.
"""

import sys

from tsc_marl import plugins
from tsc_marl.errors import UserError
from tsc_marl.plugins import blamed
from tsc_marl.sim.disturbances._breakdown import Breakdown
from tsc_marl.sim.disturbances._detectors import FROZEN_PREFIX, FaultyDetectors, select
from tsc_marl.sim.disturbances.base import Disturbance

__all__ = ["FROZEN_PREFIX", "PATHS", "Breakdown", "Disturbance", "FaultyDetectors", "available", "find", "select"]

PATHS = "the import path package.module:NAME of a Disturbance or of a subclass of it"
"""What a user may name beside the files."""


def available() -> list[str]:
    """Return the names of all files, with dashes."""
    return plugins.dashed(sys.modules[__name__])


def find(name: str) -> Disturbance:
    """Return a disturbance: a file of this folder, or an import path `package.module:NAME` of an object or a subclass.

    Raises:
        UserError: for a name without a disturbance, or a class that cannot be constructed without arguments.
    """
    package = sys.modules[__name__]
    plugins.check_dashed(package, name, "disturbance")
    if ":" in name:
        value = plugins.imported(name, "disturbance")
    else:
        value = plugins.find(package, name.replace("-", "_"), Disturbance, "disturbance")
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

"""SUMO's options that a scenario may set: they change the traffic, but neither what is measured nor the lights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsc_marl.errors import UserError
from tsc_marl.sim.legal_values import seconds

Options = tuple[tuple[str, str], ...]
"""Names without dashes, and values."""

STEP = "step-length"
PASSED = (
    STEP, "step-method.ballistic", "default.action-step-length", "default.speeddev", "default.carfollowmodel",
    "default.departlane", "default.departspeed", "default.emergencydecel", "lateral-resolution", "lanechange.",
    "time-to-impatience", "ignore-route-errors", "eager-insert", "sloppy-insert", "random-depart-offset",
    "extrapolate-departpos", "routing-algorithm", "weights.", "device.rerouting.", "person-device.rerouting.",
    "device.toc.", "device.driverstate.", "device.bluelight.", "device.glosa.", "pedestrian.model",
    "pedestrian.timegap-crossing", "pedestrian.striping.", "parking.maneuver", "railsignal-moving-block", "railsignal.",
    "tls.actuated.",
    "tls.delay_based.", "tls.yellow.min-decel", "collision.check-junctions", "collision.mingap-factor",
    "collision.stoptime",
)  # fmt: skip
"""Names of the options that go on to SUMO; those with a dot at the end are groups."""
FILES = ("output", "file", "files", "threads", "init-with-loaded-weights")
"""Last parts of names in those groups that read or write files, or that make episodes irreproducible."""
INSTEAD = {
    "scale": "it would change the demand behind the tables; set --demand.scale",
    "max-depart-delay": "vehicles that wait too long would vanish from the delay; leave it out",
    "time-to-teleport": "it is the field time_to_teleport_s",
    "ignore-junction-blocker": "it is the field ignore_junction_blocker_s",
    "collision.action": "it is the field collision_action",
    "begin": "it is the field begin_s",
    "end": "it is the field end_s",
    "seed": "each episode has its own; set --eval-seeds or --seeds",
    "mesosim": "the mesoscopic model knows no lanes; leave it out",
}
"""Why some others are refused, and what to do."""


def is_passed(name: str) -> bool:
    """Return whether an option goes on to SUMO."""
    is_file = name.rpartition(".")[2] in FILES
    return not is_file and any(name == entry or (entry.endswith(".") and name.startswith(entry)) for entry in PASSED)


def checked(given: Any, path: Path) -> Options:
    """Return the options of a scenario, sorted by name.

    Args:
        given: names and values, as YAML reads them.
        path: file of the scenario, for messages.

    Raises:
        UserError: for an option that is not passed on, or a value that is no text, number or truth.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{path}: options must be names and values, such as `lateral-resolution: 0.8`; got {given!r}")
    for name, value in given.items():
        if not isinstance(value, str | int | float) or not str(value).strip():
            raise UserError(f"{path}: option {name} must be a text, a number, true or false; got {value!r}")
        if not is_passed(str(name)):
            why = INSTEAD.get(str(name), "the program sets it itself, or it would change what is measured; leave it out")
            raise UserError(f"{path}: option {name} cannot be passed on to SUMO: {why}")
    options = {str(name): str(value).lower() if isinstance(value, bool) else str(value).strip() for name, value in given.items()}
    if STEP in options:
        _check_step(options[STEP], path)
    return tuple(sorted(options.items()))


def _check_step(text: str, path: Path) -> None:
    """Refuse a step that does not fit a whole number of times into a second, in which lights change."""
    try:
        step_s = seconds(text)
    except ValueError:
        step_s = math.nan
    if not 0 < step_s <= 1 or not math.isclose(1 / step_s, round(1 / step_s)):
        raise UserError(f"{path}: option {STEP} must be 1 s or a part of it, such as 0.5 or 0.1; got {text}")

"""SUMO's own configuration files: network, demand, additional files and window of a scenario."""

import functools
import logging
import math
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from tsc_marl.errors import UserError
from tsc_marl.sim.legal_values import seconds
from tsc_marl.sim.sumo_options import is_passed
from tsc_marl.sim.xml_files import open_xml

logger = logging.getLogger(__name__)

ROOTS = ("configuration", "sumoConfiguration")
FIELDS = {
    "net": ("net-file", "net", "n"),
    "routes": ("route-files", "routes", "r"),
    "additional": ("additional-files", "additional", "a"),
    "begin_s": ("begin", "b"),
    "end_s": ("end", "e"),
    "collision_action": ("collision.action",),
    "ignore_junction_blocker_s": ("ignore-junction-blocker",),
}
"""Fields of a scenario, and SUMO's names of the options behind them."""


def read(path: Path, end_s: int | None = None) -> dict[str, Any]:
    """Return the fields of a scenario that a `.sumocfg` file has; options that change the measure are logged and left out.

    Args:
        path: the file.
        end_s: end of the window where the file has none, as osmWebWizard's have not.

    Raises:
        UserError: when the file is not a SUMO configuration, or has no network, no routes or no end.
    """
    options = dict(_options(path))
    raw: dict[str, Any] = {"licence": "see the files", "source": str(path)}
    for field, names in FIELDS.items():
        values = [options.pop(name) for name in names if name in options]
        if values and values[0].strip():
            raw[field] = values[0].strip()
    for field, example in (("net", '<net-file value="x.net.xml"/>'), ("routes", '<route-files value="x.rou.xml"/>')):
        if field not in raw:
            raise UserError(f"{path}: option {FIELDS[field][0]} is missing; add {example} to its input section")
    for field in ("routes", "additional"):
        raw[field] = [_file_name(part) for part in raw.get(field, "").split(",") if part.strip()]
    raw["net"] = _file_name(raw["net"])
    raw["begin_s"] = _whole_seconds(path, "begin", raw.get("begin_s", "0"))
    raw["end_s"] = _whole_seconds(path, "end", raw.get("end_s", "-1"))
    if raw["end_s"] < 0 and end_s is not None:
        raw["end_s"] = end_s
    if raw["end_s"] < 0:
        raise UserError(f'{path}: option end is missing; add <end value="3600"/> to its time section')
    raw["options"] = {name: value for name, value in options.items() if is_passed(name)}
    _log_left_out(path, tuple((name, value) for name, value in options.items() if not is_passed(name)))
    return raw


def _options(path: Path) -> list[tuple[str, str]]:
    """Return the options of a configuration, sections dissolved."""
    try:
        with open_xml(path) as file:
            root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise UserError(f"{path}: not well-formed XML ({error}); correct that line") from None
    if root.tag not in ROOTS:
        raise UserError(f"{path}: not a SUMO configuration (root element {root.tag}); give a file with <configuration>")
    elements = [element for element in root.iter() if {"value", "v"} & element.attrib.keys()]
    return [(element.tag, element.get("value", element.get("v", ""))) for element in elements]


def _file_name(text: str) -> str:
    """Return the name of a file as SUMO understands it: with variables of the environment, `%20` for a space."""
    return unquote(os.path.expandvars(text.strip()))


def _whole_seconds(path: Path, option: str, text: str) -> int:
    try:
        value = seconds(text)
    except ValueError:
        value = math.nan
    if not value.is_integer():
        raise UserError(f"{path}: option {option} must be a whole number of seconds, or h:m:s; got {text}")
    return int(value)


@functools.cache
def _log_left_out(path: Path, options: tuple[tuple[str, str], ...]) -> None:
    """Log each option that a scenario cannot have, once in a process."""
    for name, value in options:
        logger.warning("%s: option %s %s is not taken over", path, name, value)

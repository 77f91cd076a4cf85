"""A scenario: which SUMO files, which time window, under which licence."""

import functools
import importlib.util
from dataclasses import dataclass, fields
from pathlib import Path
from xml.etree.ElementTree import Element

import yaml

from tsc_marl.errors import UserError, unknown
from tsc_marl.paths import NETWORKS
from tsc_marl.sim import route_files


@dataclass(frozen=True)
class Scenario:
    """One road network with its demand and time window."""

    name: str
    net: Path
    """SUMO network file."""
    routes: tuple[Path, ...]
    """SUMO route files: the demand."""
    begin_s: int
    end_s: int
    licence: str
    source: str

    @property
    def duration_s(self) -> int:
        return self.end_s - self.begin_s


def available(networks: Path = NETWORKS) -> list[str]:
    """Return the names of all networks: every folder of `networks/` that holds a scenario.yaml."""
    return sorted(path.parent.name for path in networks.glob("*/scenario.yaml"))


def load(name: str, networks: Path = NETWORKS) -> Scenario:
    """Read `networks/<name>/scenario.yaml`.

    Paths in it are relative to its folder; `sumo_rl:` in front of a path means the installed sumo-rl package,
    where RESCO's networks lie.

    Raises:
        UserError: for an unknown name, a missing or unknown field, a missing file, an empty window.
    """
    path = networks / name / "scenario.yaml"
    if not path.is_file():
        raise unknown("network", name, available(networks))
    try:
        raw = yaml.safe_load(path.read_bytes())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    expected = [field.name for field in fields(Scenario) if field.name != "name"]
    if not isinstance(raw, dict) or set(raw) != set(expected):
        raise UserError(f"{path}: expected exactly the fields {', '.join(expected)}; got {_keys(raw)}")
    if not isinstance(raw["routes"], list) or not raw["routes"]:
        raise UserError(f"{path}: routes must be a list of at least one route file; got {raw['routes']!r}")
    for key in ("begin_s", "end_s"):
        if type(raw[key]) is not int:
            raise UserError(f"{path}: {key} must be a whole number of seconds; got {raw[key]!r}")
    for key in ("licence", "source"):
        if not isinstance(raw[key], str):
            raise UserError(f"{path}: {key} must be a text, in quotes where it looks like a number; got {raw[key]!r}")
    if raw["begin_s"] >= raw["end_s"]:
        raise UserError(f"{path}: begin_s {raw['begin_s']} must be before end_s {raw['end_s']}")
    files = {
        "net": _resolve(path, "net", raw["net"]),
        "routes": tuple(_resolve(path, "routes", route) for route in raw["routes"]),
    }
    return Scenario(name=name, **{**raw, **files})


def _keys(raw: object) -> str:
    return ", ".join(map(str, raw)) if isinstance(raw, dict) else f"{type(raw).__name__}"


def _resolve(scenario: Path, field: str, given: str) -> Path:
    if str(given).startswith("sumo_rl:"):
        spec = importlib.util.find_spec("sumo_rl")
        if spec is None or spec.origin is None:
            raise UserError(f"{scenario}: {field} needs the sumo-rl package; run `make install`")
        resolved = Path(spec.origin).parent / str(given).removeprefix("sumo_rl:")
    else:
        resolved = scenario.parent / str(given)
    if not resolved.is_file():
        raise UserError(f"{scenario}: {field} file {resolved} does not exist; correct the path in scenario.yaml")
    if "," in str(resolved):
        raise UserError(f"{scenario}: {field} file {resolved} has a comma in its path, where SUMO ends a file name; rename it")
    return resolved


@functools.cache
def scheduled(scenario: Scenario) -> int:
    """Count the vehicles [veh] that the demand schedules in [begin_s, end_s); of random flows as many as come on average.

    Raises:
        UserError: when a route file is not XML or SUMO would not understand a departure, or no vehicle departs in the window.
    """
    total = sum(_in_window(element, path, scenario) for path in scenario.routes for element in route_files.elements(path))
    if total == 0:
        raise UserError(
            f"{scenario.name}: no vehicle departs between begin_s {scenario.begin_s} and end_s {scenario.end_s}; "
            f"correct the window in networks/{scenario.name}/scenario.yaml"
        )
    return max(1, round(total))


def _in_window(element: Element, path: Path, scenario: Scenario) -> float:
    if element.tag == "flow":
        return route_files.expected(element, path, scenario.begin_s, scenario.end_s)
    when = route_files.departure(element, path, scenario.begin_s) if element.tag in route_files.VEHICLES else None
    return when is not None and scenario.begin_s <= when < scenario.end_s

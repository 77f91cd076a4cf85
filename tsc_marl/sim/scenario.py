"""A scenario: which SUMO files, which time window, under which licence."""

import functools
import importlib.util
import math
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from tsc_marl.errors import UserError, unknown
from tsc_marl.paths import NETWORKS, digest, read_yaml
from tsc_marl.sim import city_detectors, output_files, route_files, signal_limits, sumocfg, xml_files
from tsc_marl.sim.city_detectors import CityDetectors
from tsc_marl.sim.legal_values import seconds
from tsc_marl.sim.occupancy import Occupancy
from tsc_marl.sim.occupancy import checked as checked_occupancy
from tsc_marl.sim.sumo_options import Options, checked

FILE = "scenario.yaml"
LONGEST_S = 366 * 86400
"""Of a window."""
COLLISION_ACTIONS = ("teleport", "warn", "remove", "none")
"""Values of SUMO's option `collision.action`, its default first."""
PATIENCE = ("ignore_junction_blocker_s", "time_to_teleport_s")
"""Fields with a time after which SUMO ends a wait that is for good."""
OPTIONAL = ("warmup_s", "additional", "signals", "limits", "detectors", "occupancy", "collision_action", *PATIENCE, "options")
"""Fields that a scenario.yaml may leave out."""
TOGETHER = "+"
"""Between the names of the networks of one training."""
LONGEST_JOINED = 100
"""Characters of the joined name of several networks; a longer one is cut."""
_elsewhere: dict[str, Path] = {}
"""Scenario files outside `networks/` that this process uses, by the plain name of the network."""


@dataclass(frozen=True)
class Scenario:
    """One road network with its demand and time window."""

    name: str
    """Plain name: results are filed under it."""
    net: Path
    """SUMO network file."""
    routes: tuple[Path, ...]
    """SUMO route files: the demand."""
    begin_s: int
    end_s: int
    licence: str
    source: str
    warmup_s: int = 0
    """Time at the begin of the window in which the network fills: vehicles that depart in it do not count."""
    additional: tuple[Path, ...] = ()
    """SUMO additional files without vehicles, such as bus stops and vehicle types."""
    signals: tuple[str, ...] = ()
    """Names of the signals that are agents, the others keep their program; empty for all that have a choice."""
    limits: signal_limits.Limits = ()
    """What a policy may do at a signal, or at `all`, beside the timing."""
    detectors: CityDetectors | None = None
    """What policies see of the traffic; None for every vehicle within the distance of detection."""
    occupancy: Occupancy = ()
    """Persons in a vehicle by its class, beside those that SUMO simulates."""
    collision_action: str = COLLISION_ACTIONS[0]
    """What SUMO does with vehicles that collide: move them away, warn, remove them, or nothing."""
    ignore_junction_blocker_s: float | None = None
    """SUMO's option `ignore-junction-blocker`: others pass through a vehicle that has stood so long inside a junction [s]; None:
    never."""
    time_to_teleport_s: float | None = None
    """SUMO's option `time-to-teleport`: a vehicle that has waited so long in front of others is moved on [s]; None: never."""
    options: Options = ()
    """Further options of SUMO (`sumo_options`)."""

    @property
    def duration_s(self) -> int:
        return self.end_s - self.begin_s

    @property
    def counted_from_s(self) -> int:
        """When the first vehicle departs that counts."""
        return self.begin_s + self.warmup_s


def available(networks: Path = NETWORKS) -> list[str]:
    """Return the names of all networks: every folder of `networks/` that holds a scenario.yaml."""
    return sorted(path.parent.name for path in networks.glob(f"*/{FILE}"))


def plain_name(network: str, networks: Path = NETWORKS) -> str:
    """Return the one name of a network: `./cross`, `cross/` and `networks/cross` are all `cross`.

    This process then finds a network outside `networks/` by that name.

    Args:
        network: a name, a folder with a scenario.yaml, or a `.sumocfg` file.
        networks: folder of the named networks.

    Raises:
        UserError: when there is no such network, or its name belongs to another one.
    """
    if network in available(networks) or network in _elsewhere:
        return network
    path = _scenario_file(network, networks)
    name = path.parent.name if path.name == FILE else path.stem
    if path.parents[1] == networks.resolve() and path.name == FILE:
        return name
    taken = networks / name if name in available(networks) else _elsewhere.get(name, path)
    if taken != path:
        raise UserError(f"network {network} has the same name as {taken}, so their results would mix; rename {path}")
    _elsewhere[name] = path
    return name


def plain_names(network: str) -> list[str]:
    """Return the plain names of the networks of one training, such as `cross+grid2x2`.

    Raises:
        UserError: as `plain_name`.
    """
    return [plain_name(name) for name in ([network] if is_one(network) else network.split(TOGETHER))]


def is_one(network: str) -> bool:
    """Return whether a name or path stands for one network, not for several that one training has together."""
    return TOGETHER not in network or network in (*available(), *_elsewhere) or Path(network).expanduser().exists()


def joined_name(names: Sequence[str]) -> str:
    """Return the name under which the store files trainings on these networks, in whatever order; of one, its own.

    >>> joined_name(["grid2x2", "cross"]), joined_name([f"town{i:02}" for i in range(60)])
    ('cross+grid2x2', 'town00+59others-ca5e2b8b')
    """
    first, *others = ordered = sorted(names)
    joined = TOGETHER.join(ordered)
    return joined if not others or len(joined) <= LONGEST_JOINED else f"{first}{TOGETHER}{len(others)}others-{digest(joined)}"


def stored_name(network: str) -> str:
    """Return the name under which the store files trainings: of a network, or of several, joined or as the store has it.

    Raises:
        UserError: as `plain_name`.
    """
    cut = re.search(r"\+\d+others-[0-9a-f]{8}$", network)
    return network if cut else joined_name([load(name).name for name in plain_names(network)])


def reference(network: str) -> str:
    """Return what names a network in another process: its plain name, or an absolute path outside `networks/`."""
    return typed(plain_name(network))


def typed(name: str) -> str:
    """Return what a user types for the plain name of a network that this process has read."""
    path = _elsewhere.get(name)
    return name if path is None else str(path.parent if path.name == FILE else path)


def load(network: str, networks: Path = NETWORKS) -> Scenario:
    """Read a network's scenario.yaml or `.sumocfg` file.

    Paths in a scenario.yaml are relative to its folder; `sumo_rl:` in front of a path means the installed sumo-rl package,
    where RESCO's networks lie.

    Args:
        network: a name, a folder with a scenario.yaml, or a `.sumocfg` file.
        networks: folder of the named networks.

    Raises:
        UserError: for an unknown name, a missing or unknown field, a missing file, an empty window.
    """
    name = plain_name(network, networks)
    return read(_elsewhere.get(name, networks / name / FILE), name)


def read(path: Path, name: str) -> Scenario:
    """Read a scenario.yaml or `.sumocfg` file as the scenario of that name.

    Raises:
        UserError: for a missing or unknown field, a missing file, an empty window.
    """
    raw = sumocfg.read(path) if path.name != FILE else _read_yaml(path)
    if raw["begin_s"] >= raw["end_s"]:
        raise UserError(f"{path}: begin_s {raw['begin_s']} must be before end_s {raw['end_s']}")
    if raw["begin_s"] < 0:
        raise UserError(f"{path}: begin_s must be at least 0; got {raw['begin_s']}")
    if not 0 <= raw.get("warmup_s", 0) < raw["end_s"] - raw["begin_s"]:
        window_s = raw["end_s"] - raw["begin_s"]
        raise UserError(f"{path}: warmup_s must be 0 or more and less than the window of {window_s} s; got {raw['warmup_s']}")
    if raw["end_s"] - raw["begin_s"] > LONGEST_S:
        raise UserError(f"{path}: end_s {raw['end_s']} must be at most {LONGEST_S} s, a year, after begin_s {raw['begin_s']}")
    if (action := raw.get("collision_action", COLLISION_ACTIONS[0])) not in COLLISION_ACTIONS:
        raise UserError(f"{path}: collision_action must be one of {', '.join(COLLISION_ACTIONS)}; got {action!r}")
    raw.update({name: _patience_s(path, name, raw[name]) for name in PATIENCE if name in raw})
    files = {
        "net": _resolve(path, "net", raw["net"]),
        "routes": _resolve_all(path, "routes", raw["routes"]),
        "additional": _resolve_all(path, "additional", raw.get("additional", ())),
    }
    resolve = functools.partial(_resolve, path, "detectors")
    parsed = {
        "signals": tuple(raw.get("signals", ())),
        "limits": signal_limits.checked(raw.get("limits", {}), path),
        "options": checked(raw.get("options", {}), path),
        "occupancy": checked_occupancy(raw.get("occupancy", {}), path),
        **({"detectors": city_detectors.checked(raw["detectors"], path, resolve)} if "detectors" in raw else {}),
    }
    return Scenario(name=name, **{**raw, **files, **parsed})


def _patience_s(path: Path, name: str, given: Any) -> float | None:
    """Return a time [s]; None for a negative one, which is SUMO's `never`."""
    try:
        value = seconds(str(given))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}: {name} must be a number of seconds, or be left out; got {given!r}")
    return value if value >= 0 else None


def _scenario_file(network: str, networks: Path) -> Path:
    """Return the absolute path of the file that describes a network given by its path."""
    path = Path(network).expanduser()
    if path.is_file() and (path.suffix == ".sumocfg" or path.name == FILE):
        return path.resolve()
    if (path / FILE).is_file():
        return (path / FILE).resolve()
    if path.is_dir():
        configurations = sorted(path.glob("*.sumocfg"))
        other = f"give {configurations[0]}" if configurations else "give a .sumocfg file"
        raise UserError(f"folder {path} has no {FILE}; write one with the fields {', '.join(_required())}, or {other}")
    if path.is_file():
        raise UserError(f"network {path} is neither a folder with a {FILE} nor a .sumocfg file; give one of these")
    if path.name != network:
        raise UserError(f"network {path} does not exist; give a name, a folder with a {FILE}, or a .sumocfg file")
    raise unknown("network", network, [*available(networks), *_elsewhere])


def _required() -> list[str]:
    return [field.name for field in fields(Scenario) if field.name != "name" and field.default is MISSING]


def _read_yaml(path: Path) -> dict:
    raw = read_yaml(path)
    if not isinstance(raw, dict) or raw.keys() - set(OPTIONAL) != set(_required()):
        raise UserError(
            f"{path}: expected exactly the fields {', '.join(_required())} (and {', '.join(OPTIONAL)}); got {_keys(raw)}"
        )
    if not isinstance(raw["routes"], list) or not raw["routes"]:
        raise UserError(f"{path}: routes must be a list of at least one route file; got {raw['routes']!r}")
    if not isinstance(raw.get("additional", []), list):
        raise UserError(f"{path}: additional must be a list of SUMO additional files; got {raw['additional']!r}")
    for entry in (*raw["routes"], *raw.get("additional", ())):
        if not isinstance(entry, str):
            raise UserError(f"{path}: routes and additional must be lists of file names; got {type(entry).__name__} {entry!r}")
    _check_signals(path, raw.get("signals"))
    for key in ("begin_s", "end_s", "warmup_s"):
        if type(raw.get(key, 0)) is not int:
            raise UserError(f"{path}: {key} must be a whole number of seconds; got {raw[key]!r}")
    for key in ("net", "licence", "source"):
        if not isinstance(raw[key], str):
            raise UserError(f"{path}: {key} must be a text, in quotes where it looks like a number; got {raw[key]!r}")
    return raw


def _check_signals(path: Path, names: Any) -> None:
    if names is None:
        return
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: signals must be a list of names of signals, numbers in quotes, or be left out; got {names!r}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{path}: signals names {twice[0]} twice; remove one of them")


def _keys(raw: object) -> str:
    return ", ".join(map(str, raw)) if isinstance(raw, dict) else f"{type(raw).__name__}"


def _resolve_all(scenario: Path, field: str, paths: Sequence[str]) -> tuple[Path, ...]:
    return tuple(_resolve(scenario, field, path) for path in paths)


def _resolve(scenario: Path, field: str, relative: str) -> Path:
    if str(relative).startswith("sumo_rl:"):
        spec = importlib.util.find_spec("sumo_rl")
        if spec is None or spec.origin is None:
            raise UserError(f"{scenario}: {field} needs the sumo-rl package; run `make install`")
        resolved = Path(spec.origin).parent / str(relative).removeprefix("sumo_rl:")
    else:
        resolved = scenario.parent / str(relative)
    if not resolved.is_file():
        raise UserError(f"{scenario}: {field} file {resolved} does not exist; correct the path in {scenario.name}")
    if "," in str(resolved):
        raise UserError(f"{scenario}: {field} file {resolved} has a comma in its path, where SUMO ends a file name; rename it")
    _check_kind(scenario, field, resolved)
    return resolved


def _check_kind(scenario: Path, field: str, path: Path) -> None:
    """Refuse a file of another kind than its field; what is not XML is found out where it is read."""
    root = xml_files.root_tag(path)
    if root in sumocfg.ROOTS:
        raise UserError(f"{scenario}: {field} file {path} is a SUMO configuration; give it as the network: NET={path}")
    if root in {"routes": ("additional", "net"), "additional": ("net",)}.get(field, ()):
        raise UserError(f"{scenario}: {field} file {path} has the root element {root}; list it under its own field")
    if field == "additional":
        for element in xml_files.elements(path):
            if element.tag in (*route_files.VEHICLES, "flow"):
                name = element.get("id", "")
                raise UserError(f"{scenario}: additional file {path} has vehicles, such as {name}; move them to a route file")
            for part, attribute, file in output_files.inputs(element):
                xml_files.inside(file, path, f"{part.tag} {part.get('id', '')}: {attribute}={file!r}")


@functools.cache
def scheduled(scenario: Scenario) -> int:
    """Count the vehicles [veh] that the demand schedules in [counted_from_s, end_s); of random flows as many as come on average.

    Raises:
        UserError: when a route file is not XML or SUMO would not understand a departure, or no vehicle departs in the window.
    """
    total = sum(_in_window(element, path, scenario) for path in scenario.routes for element in xml_files.elements(path))
    if total == 0:
        begin = f"begin_s {scenario.begin_s}" + (f" + warmup_s {scenario.warmup_s}" if scenario.warmup_s else "")
        where = _elsewhere.get(scenario.name, f"networks/{scenario.name}/{FILE}")
        raise UserError(
            f"{scenario.name}: no vehicle departs between {begin} and end_s {scenario.end_s}; correct the window in {where}"
        )
    return max(1, round(total))


def _in_window(element: Element, path: Path, scenario: Scenario) -> float:
    if element.tag == "flow":
        return route_files.expected(element, path, scenario.begin_s, scenario.end_s, scenario.counted_from_s)
    departure_s = route_files.departure(element, path, scenario.begin_s) if element.tag in route_files.VEHICLES else None
    return 1.0 if departure_s is not None and scenario.counted_from_s <= departure_s < scenario.end_s else 0.0

"""Reads SUMO's output files of one episode, each once."""

import copy
import errno
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tsc_marl.sim import messages
from tsc_marl.sim.metrics.base import Approach, EpisodeRecord, Persons, Trips
from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.sim.route_files import TICK_S
from tsc_marl.sim.timetable import EMERGENCY, PASSENGER, has_name

PERIOD_S = 300
"""Edges are counted in stretches of this length [s]."""
BLOCKED_VEH = 5
COLUMNS = ("departDelay", "timeLoss", "duration", "waitingTime", "waitingCount", "depart", "arrival")
"""Attributes of a trip, in the order of the arrays of `Trips`."""
COUNTS = ("timeLoss", "departed", "entered", "left", "arrived", "sampledSeconds")
"""Attributes of an edge."""


@dataclass(frozen=True)
class Counted:
    """What counts of an episode: vehicles and persons that depart, and what happens, from a time on."""

    from_s: float = 0.0
    end_s: float = math.inf

    def has(self, depart_s: float, delay_s: float) -> bool:
        """Return whether a vehicle counts, inserted at some time (negative: never) after a wait to be inserted."""
        return (depart_s if depart_s >= 0 else self.end_s) - delay_s >= self.from_s - TICK_S


def read_record(out: Path, seed: int, n_signals: int, network: RoadNetwork | None = None) -> EpisodeRecord:
    """Return what the files `<kind>_<seed>` in a folder say; the detailed ones are read where the network is given."""
    trips, emissions_mg, persons = _read_trips(out, seed)
    halting, teleports, collisions = _read_summary(out / f"summary_{seed}.xml", _counted(out, seed).from_s)
    approaches, blocked = ({}, set[str]()) if network is None else _read_edges(out, seed, network, trips)
    return EpisodeRecord(
        out, seed, n_signals, trips, halting, teleports, network is not None, emissions_mg, approaches, frozenset(blocked),
        collisions, tuple(read_dropped(out, seed)), messages.count(out / messages.file_name(seed)), persons,
    )  # fmt: skip


def read_dropped(out: Path, seed: int) -> dict[str, float]:
    """Return the vehicles that SUMO threw away, and how long they would have waited by the end [s]."""
    counted = _counted(out, seed)
    dropped: dict[str, float] = _noted(out / f"dropped_{seed}.json", {})
    return {name: waited_s for name, waited_s in dropped.items() if counted.has(-1.0, waited_s)}


def _counted(out: Path, seed: int) -> Counted:
    return Counted(**_noted(out / f"counted_{seed}.json", {}))


def _noted(path: Path, nothing: Any) -> Any:
    """Return what was noted during the episode."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else nothing


def read_approaches(out: Path, seed: int, network: RoadNetwork) -> dict[str, Approach]:
    """Return each approach by its edge, from the detailed files of an episode."""
    return _read_edges(out, seed, network, _read_trips(out, seed)[0])[0]


def _read_trips(out: Path, seed: int) -> tuple[Trips, np.ndarray, Persons]:
    """Return the trips, emissions [E, 2] in mg where SUMO measured them, and the persons.

    Vehicles that SUMO threw away are not in its file; they count as never inserted.
    """
    counted = _counted(out, seed)
    ids, lanes, types, rows, emitted = list[str](), list[str](), list[str](), list[list[float]](), list[list[float]]()
    journeys = list[ElementTree.Element]()
    for trip in _trips(out / f"tripinfo_{seed}.xml"):
        if not counted.has(float(trip.attrib["depart"]), float(trip.get("departDelay", 0))):
            continue
        if trip.tag == "personinfo":
            journeys.append(copy.deepcopy(trip))
            continue
        ids.append(trip.attrib["id"])
        lanes.append(trip.attrib["departLane"])
        types.append(trip.attrib["vType"])
        rows.append([float(trip.attrib[column]) for column in COLUMNS])
        if trip.attrib["vaporized"]:  # SUMO took it off the road, after a collision for one
            rows[-1][COLUMNS.index("arrival")] = -1.0
        emitted += [[float(of.attrib["CO2_abs"]), float(of.attrib["fuel_abs"])] for of in trip.findall("emissions")]
    for vehicle, waited_s in read_dropped(out, seed).items():
        ids.append(vehicle)
        lanes.append("")
        types.append("")
        rows.append([waited_s, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0])
    lines = frozenset(_noted(out / f"transit_{seed}.json", []))
    class_of, occupancy = (_noted(out / f"{kind}_{seed}.json", {}) for kind in ("classes", "occupancy"))
    classes = [class_of.get(name, PASSENGER) for name in types]
    trips = Trips(
        ids, lanes, *np.array(rows).reshape(-1, len(COLUMNS)).T,
        transit=np.array([has_name(lines, name) for name in ids], dtype=bool),
        emergency=np.array([name == EMERGENCY for name in classes], dtype=bool),
        persons=np.array([occupancy.get(name, 1.0) for name in classes], dtype=float),
    )  # fmt: skip
    return trips, np.array(emitted).reshape(-1, 2), _persons(journeys, trips, _noted(out / f"persons_{seed}.json", {}))


def _persons(journeys: list[ElementTree.Element], trips: Trips, waiting_s: dict[str, float]) -> Persons:
    """Return the persons of SUMO's file; it has no time lost on a ride that is not finished.

    Args:
        journeys: the elements of P persons.
        trips: of the vehicles.
        waiting_s: how long those persons have waited who are on their way at the end.
    """
    share = trips.time_loss_s / np.maximum(trips.duration_s, TICK_S)
    loss_rate = dict(zip(trips.ids, share.tolist(), strict=True))
    walks, rides, unfinished = list[float](), list[float](), list[bool]()
    for person in journeys:
        on_foot = list(person.iter("walk"))
        unfinished.append(any(float(walk.attrib["arrival"]) < 0 for walk in on_foot))
        last_s = waiting_s.get(person.attrib["id"], 0.0) if unfinished[-1] else 0.0
        walks.append(sum(max(0.0, float(walk.attrib["timeLoss"])) for walk in on_foot) + last_s)
        lost_s = 0.0
        for ride in person.iter("ride"):
            if float(ride.attrib["arrival"]) >= 0:
                lost_s += float(ride.attrib["timeLoss"])
            elif float(ride.attrib["depart"]) >= 0:
                lost_s += float(ride.attrib["duration"]) * loss_rate.get(ride.attrib["vehicle"], 0.0)
        rides.append(lost_s)
    return Persons(np.array(walks), np.array(rides), np.array(unfinished, dtype=bool))


def _elements(path: Path) -> Iterator[ElementTree.Element]:
    """Yield the elements of SUMO's file as they end.

    Raises:
        OSError: for a file that is cut short: SUMO does not notice that a disk is full.
    """
    try:
        for _, element in ElementTree.iterparse(path):
            yield element
    except ElementTree.ParseError as error:
        raise OSError(errno.ENOSPC, f"SUMO's file {path.name} is cut short ({error})", str(path)) from None


def _trips(path: Path) -> Iterator[ElementTree.Element]:
    """Yield the trips in SUMO's file, but of those that it read in advance and that were not due before the end."""
    for element in _elements(path):
        if element.tag in ("tripinfo", "personinfo"):
            if float(element.attrib["depart"]) >= 0 or float(element.get("departDelay", 0)) > 0:
                yield element
            element.clear()


def _read_summary(path: Path, from_s: float) -> tuple[np.ndarray, float, float]:
    """Return the halting vehicles over time, and the numbers of teleports and collisions, all from a time on."""
    halting, before, total = list[float](), (0.0, 0.0), (0.0, 0.0)
    for element in _elements(path):
        if element.tag == "step":
            total = float(element.attrib["teleports"]), float(element.attrib["collisions"])
            if float(element.attrib["time"]) < from_s:
                before = total
            else:
                halting.append(float(element.attrib["halting"]))
    return np.array(halting), total[0] - before[0], total[1] - before[1]


def _read_edges(out: Path, seed: int, network: RoadNetwork, trips: Trips) -> tuple[dict[str, Approach], set[str]]:
    """Return each approach by its edge, and the blocked edges."""
    approaches: dict[str, Approach] = defaultdict(Approach)
    used: dict[str, float] = defaultdict(float)
    blocked: set[str] = set()
    for interval in _elements(out / f"edges_{seed}.xml"):
        if interval.tag != "interval":
            continue
        length_s = float(interval.attrib["end"]) - float(interval.attrib["begin"])
        for edge in interval:
            seen = {key: float(edge.get(key, 0)) for key in COUNTS}
            approaches[network.approach[edge.attrib["id"]]].time_loss_s += seen["timeLoss"]
            used[edge.attrib["id"]] += seen["departed"] + seen["entered"]
            still = seen["left"] + seen["arrived"] == 0 and seen["sampledSeconds"] >= BLOCKED_VEH * length_s
            if still and length_s == PERIOD_S:
                blocked.add(edge.attrib["id"])
        interval.clear()
    for edge, vehicles in used.items():
        if not edge.startswith(":"):
            approach = approaches[network.approach[edge]]
            approach.vehicles = max(approach.vehicles, vehicles)
    _add_insertion(out / f"pending_{seed}.json", network, trips, approaches)
    return dict(approaches), blocked


def _add_insertion(path: Path, network: RoadNetwork, trips: Trips, approaches: dict[str, Approach]) -> None:
    """Charge what vehicles waited to be inserted to the approaches that they would have come to first.

    The way of a vehicle that SUMO threw away is not on record; no approach is charged for it.
    """
    pending = json.loads(path.read_text(encoding="utf-8"))
    for vehicle, lane, delay_s in zip(trips.ids, trips.depart_lane, trips.depart_delay_s.tolist(), strict=True):
        edge = pending[vehicle][0] if vehicle in pending else edge_of(lane)
        if not edge:
            continue
        approach = approaches[network.approach[edge]]
        approach.insertion_s += delay_s
        approach.vehicles += vehicle in pending

"""Metrics of one episode, from SUMO's own output files: one definition each, over all vehicles scheduled in the window.

| metric | formula | unit | file |
|---|---|---|---|
| delay | mean of timeLoss + departDelay; a vehicle never inserted is charged until the horizon | s | tripinfo |
| time_loss, insertion_delay | its two parts | s | tripinfo |
| delay_p95 | 95th percentile of timeLoss + departDelay | s | tripinfo |
| travel_time | mean duration of the vehicles that arrived | s | tripinfo |
| waiting | mean time below 0.1 m/s of the inserted vehicles | s | tripinfo |
| stops | mean number of times that an inserted vehicle fell below 0.1 m/s | - | tripinfo |
| queue, queue_max | mean and maximum over time of the halting vehicles in the network, per signal | veh | summary |
| scheduled, arrived, never_inserted | counts | veh | tripinfo |
| teleports | must be 0 here: teleporting is off | veh | summary |

and in detail, where asked for:

| metric | formula | unit | file |
|---|---|---|---|
| worst_approach | largest delay per vehicle of an approach that 20 vehicles or more meant to use | s | edges, tripinfo, pending |
| blocked | approaches and other edges with at least 5 vehicles, none of which left for 5 minutes | - | edges |
| gridlock | 1 if there is one | - | edges |
| co2, fuel | totals | kg | tripinfo |

A working signal holds nobody for 5 minutes (twice the longest red of timing `field`), so what is blocked is locked by vehicles
that block one another, or starved by its signal. The delay of an approach is the time lost on it and on the roads that lead to
it first (`RoadNetwork.approach`), and what vehicles that start there waited to be inserted. On edges SUMO counts time lost
against the road's limit and not, as in trips, against the vehicle's own wish: together they come to some percent more.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tsc_marl.sim.road_network import RoadNetwork, edge_of

PERIOD_S = 300
"""Edges are counted in stretches of this length [s]."""
BLOCKED_VEH = 5
USED_VEH = 20


def read(out: Path, seed: int, n_signals: int) -> dict[str, float]:
    """Return the metrics of the episode whose files `tripinfo_<seed>.xml` and `summary_<seed>.xml` lie in `out`."""
    columns = ("departDelay", "timeLoss", "duration", "waitingTime", "waitingCount", "depart", "arrival")
    rows, emitted = [], []
    for trip in _trips(out, seed):
        rows.append([float(trip.attrib[column]) for column in columns])
        emitted += [[float(of.attrib["CO2_abs"]), float(of.attrib["fuel_abs"])] for of in trip.findall("emissions")]
    delay, loss, duration, waiting, stops, depart, arrival = np.array(rows).reshape(-1, len(columns)).T
    inserted, arrived = depart >= 0, arrival >= 0
    halting, teleports = _summary(out / f"summary_{seed}.xml")
    values = {
        "delay": _mean(loss + delay),
        "time_loss": _mean(loss),
        "insertion_delay": _mean(delay),
        "delay_p95": float(np.percentile(loss + delay, 95)) if rows else float("nan"),
        "travel_time": _mean(duration[arrived]),
        "waiting": _mean(waiting[inserted]),
        "stops": _mean(stops[inserted]),
        "queue": _mean(halting) / n_signals,
        "queue_max": float(halting.max(initial=0)) / n_signals,
        "scheduled": float(len(rows)),
        "arrived": float(arrived.sum()),
        "never_inserted": float((~inserted).sum()),
        "teleports": teleports,
    }
    if emitted:
        co2_mg, fuel_mg = np.sum(emitted, axis=0)
        values |= {"co2": co2_mg / 1e6, "fuel": fuel_mg / 1e6}
    return values


@dataclass
class Approach:
    """What happened on the roads that lead to one approach of a signal."""

    vehicles: float = 0.0
    """Vehicles [veh] that meant to use it: on its busiest edge, and those never inserted."""
    time_loss_s: float = 0.0
    insertion_s: float = 0.0

    @property
    def lost_s(self) -> float:
        """Vehicle-seconds in total."""
        return self.time_loss_s + self.insertion_s

    @property
    def delay_s(self) -> float:
        """Seconds per vehicle."""
        return self.lost_s / max(self.vehicles, 1.0)


def detail(out: Path, seed: int, net: RoadNetwork) -> tuple[dict[str, float], dict[str, Approach]]:
    """Return the detailed metrics but emissions, and each approach by its edge, from `edges_<seed>.xml` and the others."""
    approaches: dict[str, Approach] = defaultdict(Approach)
    used: dict[str, float] = defaultdict(float)
    stuck: set[str] = set()
    for _, interval in ElementTree.iterparse(out / f"edges_{seed}.xml"):
        if interval.tag != "interval":
            continue
        length_s = float(interval.attrib["end"]) - float(interval.attrib["begin"])
        for edge in interval:
            seen = {
                key: float(edge.get(key, 0)) for key in ("timeLoss", "departed", "entered", "left", "arrived", "sampledSeconds")
            }
            approaches[net.approach[edge.attrib["id"]]].time_loss_s += seen["timeLoss"]
            used[edge.attrib["id"]] += seen["departed"] + seen["entered"]
            still = seen["left"] + seen["arrived"] == 0 and seen["sampledSeconds"] >= BLOCKED_VEH * length_s
            if still and length_s == PERIOD_S:
                stuck.add(edge.attrib["id"])
        interval.clear()
    for edge, vehicles in used.items():
        if not edge.startswith(":"):
            approach = approaches[net.approach[edge]]
            approach.vehicles = max(approach.vehicles, vehicles)
    _add_insertion(out, seed, net, approaches)
    worst = max((a.delay_s for a in approaches.values() if a.vehicles >= USED_VEH), default=float("nan"))
    values = {"worst_approach": worst, "blocked": float(len(stuck)), "gridlock": float(bool(stuck))}
    return values, dict(approaches)


def _add_insertion(out: Path, seed: int, net: RoadNetwork, approaches: dict[str, Approach]) -> None:
    """Charge what vehicles waited to be inserted to the approaches that they would have come to first."""
    pending = json.loads((out / f"pending_{seed}.json").read_text())
    for element in _trips(out, seed):
        start = pending.get(element.attrib["id"]) or edge_of(element.attrib["departLane"])
        approach = approaches[net.approach[start]]
        approach.insertion_s += float(element.attrib["departDelay"])
        approach.vehicles += element.attrib["id"] in pending


def _trips(out: Path, seed: int) -> Iterator[ElementTree.Element]:
    """Yield the trips in SUMO's file, but of vehicles that it read in advance and that were not due before the end."""
    for _, element in ElementTree.iterparse(out / f"tripinfo_{seed}.xml"):
        if element.tag == "tripinfo":
            if float(element.attrib["depart"]) >= 0 or float(element.attrib["departDelay"]) > 0:
                yield element
            element.clear()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _summary(path: Path) -> tuple[np.ndarray, float]:
    halting, teleports = [], 0.0
    for _, element in ElementTree.iterparse(path):
        if element.tag == "step":
            halting.append(float(element.attrib["halting"]))
            teleports = float(element.attrib["teleports"])
    return np.array(halting), teleports

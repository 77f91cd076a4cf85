"""What a controller on the street must know of its network: which detector feeds which input, phases, changes, limits."""

from collections import defaultdict
from typing import Any

import numpy as np

from tsc_marl.rollout.task import Task
from tsc_marl.sim import observations
from tsc_marl.sim.lane_features import ARRIVING_VEH, GREEN_S, QUEUE_VEH, WAITING_S
from tsc_marl.sim.observations.movements import (
    BEHIND_VEH,
    PHASE_FEATURES,
    RED_S,
    SIGNAL_FEATURES,
    MovementsObservation,
    timing_features,
)
from tsc_marl.sim.observations.movements_persons import PERSONS
from tsc_marl.sim.priority import LONGEST_S, RANGE_M, REST_S
from tsc_marl.sim.road_network import RoadNetwork, Signal
from tsc_marl.sim.signal_timer import SignalTimer
from tsc_marl.sim.signal_timing import NEVER, Timing
from tsc_marl.sim.signal_view import SignalContext

FORMAT = 2
"""Version of the file, which `controller.py` expects."""
LANE, LINK, BEHIND = "lanes, the link's in_lane", "links, the link", "receiving, summed over the link's receiving lanes"
INPUTS: dict[str, dict[str, Any]] = {
    "queue": {"of": LANE, "reading": "halting", "unit": QUEUE_VEH, "per": "link of the lane"},
    "approaching": {"of": LANE, "reading": "moving", "unit": QUEUE_VEH, "per": "link of the lane"},
    "arriving": {"of": LANE, "reading": "arriving", "unit": ARRIVING_VEH, "per": "link of the lane"},
    "speed": {"of": LANE, "reading": "speed", "unit": 1, "empty": 1},
    "waiting": {"of": LANE, "reading": "waiting_s", "unit": WAITING_S, "most": 3},
    "bound_queue": {"of": LINK, "reading": "halting", "unit": QUEUE_VEH},
    "bound_approaching": {"of": LINK, "reading": "moving", "unit": QUEUE_VEH},
    "bound_arriving": {"of": LINK, "reading": "arriving", "unit": ARRIVING_VEH},
    "bound_near": {"of": LINK, "reading": "near", "unit": ARRIVING_VEH},
    "occupancy": {"of": BEHIND, "reading": "vehicles", "unit": "capacity_veh", "most": 1.5},
    "halting_behind": {"of": BEHIND, "reading": "halting", "unit": BEHIND_VEH},
    "room_behind": {"of": BEHIND, "reading": "capacity_veh - vehicles", "unit": BEHIND_VEH, "least": 0, "most": 2},
    "green_behind": {"of": "ahead", "reading": "share of these links that the present phase of their signal serves", "unit": 1},
    "green": {"of": "own phase", "reading": "whether the present phase serves the link", "unit": 1},
    "since_green": {"of": "own phase", "reading": "seconds since a decision with green", "unit": RED_S, "most": 3},
    "failed": {"of": LANE, "reading": "failed", "unit": 1},
    "failed_behind": {"of": BEHIND, "reading": "failed, the mean", "unit": 1},
    "bound_persons": {"of": LINK, "reading": "persons, else one a vehicle", "unit": PERSONS},
    "bound_persons_near": {"of": LINK, "reading": "persons_near, else one a vehicle", "unit": PERSONS},
}
"""What each input of a link is: a reading over a unit, within bounds."""


def recipe(task: Task, memory: int) -> dict[str, Any]:
    """Return the content of `recipe.json` for a task whose observation is `movements` or `movements-persons`.

    Args:
        task: network, timing and observation.
        memory: width of the policy's memory of the last decisions; 0 for none.
    """
    net, timing = task.net(), task.timing
    observation = movements_of(task)
    structure = observation.structure
    n_links, n_phases = structure.real.shape[1], structure.phase_real.shape[1]
    signals = {signal.name: signal_plan(net, i, timing, observation) for i, signal in enumerate(net.signals)}
    return {
        "format": FORMAT,
        "network": task.network,
        "observation": {"name": task.sim.observation, "version": observation.version, "detection_m": task.sim.detection_m},
        "timing": {name: value for name, value in vars(timing).items()},
        "priority": _priority(timing.priority),
        "occupancy": dict(task.scenario.occupancy),
        "seen": _seen(net),
        "size": {
            "links": n_links,
            "phases": n_phases,
            "static": structure.static.shape[-1],
            "link": len(observation.link_features),
            "phase": len(PHASE_FEATURES),
            "signal": len(SIGNAL_FEATURES),
            "memory": memory,
        },
        "inputs": {
            "links": {name: INPUTS[name] for name in observation.link_features},
            "phases": {"shown": "whether it is the present phase", "legal": "whether it may be chosen now"},
            "signal": {
                "since_change": f"seconds since the last change was decided, over {GREEN_S:.0f}, at most 1",
                "may_change": "whether the least green of the present phase has passed",
                "decision, change, min_green": "timing_features of the signal",
            },
        },
        "signals": signals,
    }


def movements_of(task: Task) -> MovementsObservation:
    """Return the observation of a task: `movements`, or one derived from it."""
    kind = observations.find(task.sim.observation)
    if not issubclass(kind, MovementsObservation):
        raise TypeError(f"observation {task.sim.observation} has no links and phases")
    return kind(SignalContext(task.net(), task.timing, task.sim.detection_m))


def _seen(net: RoadNetwork) -> dict[str, list[list[float]]] | None:
    """Return by lane the stretches [m] that the city's detectors see; None where they see all that counts."""
    if net.seen is None:
        return None
    ends = np.stack([net.seen.from_m, net.seen.to_m], axis=-1)
    return {lane: ends[i][np.isfinite(ends[i, :, 0])].tolist() for lane, i in net.lane_index.items() if not net.seen.blind[i]}


def _priority(given: str) -> dict[str, Any]:
    """Return the kinds of vehicles that have priority, with their ranges, and the times of public transport."""
    range_m = {kind: range_m for kind, range_m in RANGE_M.items() if given in (kind, "all")}
    return {"range_m": range_m, "longest_s": LONGEST_S, "rest_s": REST_S}


def signal_plan(net: RoadNetwork, i: int, timing: Timing, observation: MovementsObservation) -> dict[str, Any]:
    """Return what `recipe.json` has of signal number i."""
    signal, structure = net.signals[i], observation.structure
    timer = signal.timer(timing, 0.0)
    changes, numbers = timer.changes, range(len(signal.phases))
    phases = [
        {
            "state": state, "serves": structure.serves[i, p, : len(signal.links)].tolist(),
            "least_green_s": changes.least_green_s[p], "most_green_s": _finite(changes.most_green_s[p]),
            "ending_s": timer.ending_s.get(p, 0),
        }
        for p, state in enumerate(signal.phases)
    ]  # fmt: skip
    return {
        "x": signal.x, "y": signal.y, "neighbours": signal.neighbours, "crossings": [c.link for c in signal.crossings],
        "phases": phases, "first": timer.phase, "onward": [list(changes.onward.get(p, ())) for p in numbers],
        "changes": [[changes.stages(p, q) if p != q else [] for q in numbers] for p in numbers],
        "early_s": changes.early_s, "yellow_s": [[changes.yellow_s(p, q) for q in numbers] for p in numbers],
        "change_s": changes.own_change_s, "timing_features": timing_features(signal, timing),
        "longest_red": _longest_red(signal, timer, timing) if timer.red.is_limited else None,
        "lanes": _lanes(net, signal, observation), "links": _links(net, i, observation),
    }  # fmt: skip


def _longest_red(signal: Signal, timer: SignalTimer, timing: Timing) -> dict[str, Any]:
    """Return what the longest red needs: phases that cover its links, or in a fixed order the wait for each link."""
    red, changes, numbers = timer.red, timer.changes, range(len(signal.phases))
    limited = range(len(signal.phases[0])) if timing.max_red_s is not None else [c.link for c in signal.crossings]
    return {
        "seconds": red.limit_s, "links": list(limited), "cover": red.cover, "service_s": timer.service_s,
        "longest_change_s": changes.longest_s,
        "waits_s": [[*map(_finite, red.waits_s.get(p, ()))] for p in numbers] if red.waits_s else None,
        "visit_s": [[changes.visit_s(p, q) for q in numbers] for p in numbers],
    }  # fmt: skip


def _finite(seconds: float) -> float | None:
    return float(seconds) if seconds < NEVER else None


def _lanes(net: RoadNetwork, signal: Signal, observation: MovementsObservation) -> dict[str, dict[str, Any]]:
    """Return the incoming lanes with the stretches of road whose vehicles count there, and the share that nobody sees."""
    coverage, names = net.detector_coverage, list(net.lane_index)
    slots = [lane for other in net.signals for lane in other.lanes]
    failed = np.zeros(len(slots)) if net.seen is None else observation.failed(net.seen.blind)
    lanes = {}
    for lane in signal.lanes:
        rows, columns = np.nonzero((coverage.slot == slots.index(lane)) & np.isfinite(coverage.offset_m))
        detectors = [
            {
                "lane": names[row], "length_m": net.lane_length_m[row], "limit_ms": net.lane_limit_ms[row],
                "offset_m": coverage.offset_m[row, column], "share": coverage.weight[row, column],
            }
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]  # fmt: skip
        n_links = sum(link.in_lane == lane for link in signal.links)
        lanes[lane] = {"links": n_links, "detectors": detectors, "failed": failed[slots.index(lane)]}
    return lanes


def _links(net: RoadNetwork, i: int, observation: MovementsObservation) -> list[dict[str, Any]]:
    signal, structure = net.signals[i], observation.structure
    width = structure.real.shape[1]
    ahead: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for source, target in structure.onward.tolist():
        ahead[source].append((net.signals[target // width].name, target % width))
    capacity = structure.receiving.capacity_veh[[structure.place[signal.name, link.link] for link in signal.links]]
    return [
        {
            "link": link.link, "in_lane": link.in_lane, "out_lane": link.out_lane, "turn": link.turn,
            "receiving": link.receiving, "capacity_veh": capacity_veh, "ahead": ahead[i * width + k],
            "static": structure.static[i, k].tolist(),
        }
        for k, (link, capacity_veh) in enumerate(zip(signal.links, capacity.tolist(), strict=True))
    ]  # fmt: skip

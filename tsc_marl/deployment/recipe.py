"""What a controller on the street must know of its network: which detector feeds which input, phases, changes, limits."""

from collections import defaultdict
from typing import Any

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.rollout.task import Task
from tsc_marl.sim.lane_features import ARRIVING_VEH, GREEN_S, QUEUE_VEH, WAITING_S
from tsc_marl.sim.observations.movements import (
    BEHIND_VEH,
    LINK_FEATURES,
    PHASE_FEATURES,
    RED_S,
    SIGNAL_FEATURES,
    TIMING_S,
    MovementsObservation,
)
from tsc_marl.sim.road_network import RoadNetwork, Signal
from tsc_marl.sim.signal_limits import NO_LIMITS
from tsc_marl.sim.signal_timing import NEVER, Timing
from tsc_marl.sim.signal_view import SignalContext

FORMAT = 1
"""Version of the file."""
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
}
"""What each input of a link is: a reading over a unit, within bounds."""


def recipe(task: Task, memory: int) -> dict[str, Any]:
    """Return the content of `recipe.json` for a task whose observation is `movements`.

    Args:
        task: network, timing and observation.
        memory: width of the policy's memory of the last decisions; 0 for none.

    Raises:
        UserError: for limits or priority, which the controller does not keep.
    """
    net, timing = task.net(), task.timing
    if timing.priority != "none":
        raise UserError(f"timing.priority {timing.priority} is nothing that the controller gives; leave it out, or use a Pilot")
    observation = MovementsObservation(SignalContext(net, timing, task.sim.detection_m))
    structure = observation.structure
    n_links, n_phases = structure.real.shape[1], structure.phase_real.shape[1]
    signals = {signal.name: _signal(net, i, timing, observation) for i, signal in enumerate(net.signals)}
    return {
        "format": FORMAT,
        "network": task.network,
        "observation": {"name": task.sim.observation, "version": observation.version, "detection_m": task.sim.detection_m},
        "timing": {name: value for name, value in vars(timing).items()},
        "timing_features": [seconds / TIMING_S for seconds in (timing.decision_s, timing.change_s, timing.min_green_s)],
        "size": {
            "links": n_links,
            "phases": n_phases,
            "static": structure.static.shape[-1],
            "link": len(LINK_FEATURES),
            "phase": len(PHASE_FEATURES),
            "signal": len(SIGNAL_FEATURES),
            "memory": memory,
        },
        "inputs": {
            "links": {name: INPUTS[name] for name in LINK_FEATURES},
            "phases": {"shown": "whether it is the present phase", "legal": "whether it may be chosen now"},
            "signal": {
                "since_change": f"seconds since the last change was decided, over {GREEN_S:.0f}, at most 1",
                "may_change": "whether the least green of the present phase has passed",
                "decision, change, min_green": "timing_features",
            },
        },
        "signals": signals,
    }


def _signal(net: RoadNetwork, i: int, timing: Timing, observation: MovementsObservation) -> dict[str, Any]:
    signal, structure = net.signals[i], observation.structure
    if signal.limits != NO_LIMITS:
        raise UserError(f"signal {signal.name} has limits in scenario.yaml, which the controller does not keep; use a Pilot")
    timer = signal.timer(timing, 0.0)
    changes, n_phases = timer.changes, len(signal.phases)
    limited = range(len(signal.phases[0])) if timing.max_red_s is not None else [c.link for c in signal.crossings]
    longest_red = {
        "seconds": timer.red.limit_s, "links": list(limited), "cover": timer.red.cover, "service_s": timer.service_s,
        "longest_change_s": changes.longest_s,
    }  # fmt: skip
    phases = [
        {"state": state, "serves": serves[: len(signal.links)].tolist(), "least_green_s": least_s}
        for state, serves, least_s in zip(signal.phases, structure.serves[i], changes.least_green_s, strict=False)
    ]
    stages = [[changes.stages(p, q) if p != q else [] for q in range(n_phases)] for p in range(n_phases)]
    return {
        "x": signal.x, "y": signal.y, "neighbours": signal.neighbours, "crossings": [c.link for c in signal.crossings],
        "phases": phases, "changes": stages, "early_s": changes.early_s,
        "longest_red": longest_red if timer.red.limit_s < NEVER else None,
        "lanes": _lanes(net, signal), "links": _links(net, i, observation),
    }  # fmt: skip


def _lanes(net: RoadNetwork, signal: Signal) -> dict[str, dict[str, Any]]:
    """Return the incoming lanes with the stretches of road whose vehicles count there."""
    coverage, names = net.detector_coverage, list(net.lane_index)
    slots = [lane for other in net.signals for lane in other.lanes]
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
        lanes[lane] = {"links": sum(link.in_lane == lane for link in signal.links), "detectors": detectors}
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

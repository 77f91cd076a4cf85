"""How much traffic takes which movement: counted in a counting run, for the controllers that plan ahead."""

import contextlib
import functools
import itertools
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.sim import seeds
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalContext

Movement = tuple[int, str, str]
"""A movement as drivers see it: the signal's number, the edge they come from, the edge they go to."""


@dataclass(frozen=True)
class TurningCounts:
    """Vehicles scheduled in the window, whether they got through or not."""

    vehicles_per_hour: dict[Movement, float]
    """Vehicles per hour that take a turn at a signal."""
    pairs_per_hour: dict[tuple[Movement, Movement], float]
    """Vehicles per hour that take a turn at one signal and then one at the next."""
    travel_s: dict[tuple[Movement, Movement], float]
    """Seconds between those two stop lines, at the speed limits."""


@dataclass(frozen=True)
class PlanningContext(SignalContext):
    """What a controller may know before its first episode: the signals, and the demand that engineers count."""

    network_name: str
    turning_counts: Callable[[], TurningCounts]
    """Counts the demand in a counting episode."""


def planning_context(env: TrafficEnv) -> PlanningContext:
    """Return what a controller of this environment may know."""
    return PlanningContext(env.net, env.timing, env.config.detection_m, env.scenario.name, functools.partial(_warm_up, env))


def _warm_up(env: TrafficEnv) -> TurningCounts:
    """Play one episode under the network's own programs and count the routes of its vehicles.

    It plays in a process of its own, so that the episode after it owes nothing to it. What goes wrong (`env.disturbance`) is
    not known beforehand: it is left out.

    Raises:
        UserError: when no vehicle passes a signal, or SUMO refuses the files.
    """
    task = pickle.dumps((env.scenario, env.timing, env.demand))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", __name__]  # in a session of its own: Ctrl-C reaches it through us
    done = subprocess.run(command, input=task, stdout=subprocess.PIPE, env=environ, check=True, start_new_session=True)
    routes = pickle.loads(done.stdout)
    if isinstance(routes, UserError):
        raise routes
    flows = count(env.net, routes, 3600 / env.scenario.duration_s)
    if not flows.vehicles_per_hour:
        raise UserError(f"{env.scenario.name}: no vehicle passes a signal that has a choice, so there is no demand to plan for")
    return flows


def _play(scenario: Scenario, timing: Timing, demand: Demand) -> Counter[tuple[str, ...]]:
    env = TrafficEnv(scenario, timing, demand=demand)
    env.reset(seeds.WARM_UP_SEED, sumo_controlled=True)
    vehicle, simulation = env.engine.api.vehicle, env.engine.api.simulation
    routes: Counter[tuple[str, ...]] = Counter(vehicle.getRoute(name) for name in vehicle.getIDList())
    done = False
    while not done:
        _, done = env.step(np.zeros(len(env.names), dtype=int))
        present = env.vehicles.parked.union(env.vehicles.ids)  # one that came and went since the last decision passed no signal
        routes.update(vehicle.getRoute(name) for name in simulation.getDepartedIDList() if name in present)
    routes.update(vehicle.getRoute(name) for name in simulation.getPendingVehicles())
    env.close()
    return routes


def _answer() -> None:
    """Answer the task on stdin with the routes; what SUMO prints goes to stderr."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        routes: Counter[tuple[str, ...]] | UserError = _play(*pickle.load(sys.stdin.buffer))
    except UserError as error:
        routes = error
    with contextlib.suppress(BrokenPipeError), answer:  # who asked may have been stopped
        pickle.dump(routes, answer)


def count(net: RoadNetwork, routes: Counter[tuple[str, ...]], per_hour: float) -> TurningCounts:
    """Count turns along routes of edges; `per_hour` turns vehicles into vehicles per hour."""
    at: dict[tuple[str, str], int] = {}
    for i, signal in enumerate(net.signals):
        for movement in signal.links:
            at[edge_of(movement.in_lane), edge_of(movement.out_lane)] = i
    vehicles_per_hour: Counter[Movement] = Counter()
    pairs_per_hour: Counter[tuple[Movement, Movement]] = Counter()
    travel_s: dict[tuple[Movement, Movement], float] = {}
    for route, vehicles in routes.items():
        last: tuple[Movement, int] | None = None
        for k, (edge, after) in enumerate(itertools.pairwise(route)):
            if (edge, after) not in at:
                continue
            turn = (at[edge, after], edge, after)
            vehicles_per_hour[turn] += vehicles
            if last is not None:
                pairs_per_hour[last[0], turn] += vehicles
                travel_s[last[0], turn] = _seconds(net, route[last[1] + 1 : k + 1])
            last = (turn, k)
    hourly = {turn: vehicles * per_hour for turn, vehicles in vehicles_per_hour.items()}
    return TurningCounts(hourly, {pair: vehicles * per_hour for pair, vehicles in pairs_per_hour.items()}, travel_s)


def _seconds(net: RoadNetwork, edges: Sequence[str]) -> float:
    lanes = [net.lane_index[f"{edge}_0"] for edge in edges]
    return float((net.lane_length_m[lanes] / net.lane_limit_ms[lanes]).sum())


if __name__ == "__main__":
    _answer()

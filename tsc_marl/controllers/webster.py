r"""Webster's fixed time (Webster 1958, Road Research Technical Paper 39): cycle and splits for the demand of a counting run.

The flow ratio Y and the splits of a signal come from a linear program (after Allsop 1972, doi 10.1287/trsc.6.3.223). Its
variables are l_p, the share of phase p in the cycle, and x_k, the flow over link k. It minimises Y = sum_p l_p such that

- the links of a turn carry its flow;
- x_k <= s sum_p a_pk l_p, with s the saturation flow; a_pk is 1 for a protected green and `PERMISSIVE` for a yielding one;
- a lane carries at most s times the share of the cycle in which any of its links is green.

The cycle is C = (1.5 L + 5) / (1 - Y), with L the lost time of all phases. Among the sets of phases that serve all turns, the
set with the shortest cycle is used. Given C, the splits maximise the least reserve of capacity by the same program. A turn
without vehicles counts as `LEAST_VEH_H`, so that it gets green. Limits of a signal bound its sets, its cycle and its splits.

Parameters: `SATURATION_VEH_H` of a lane, `LEAST_S` and `MOST_S` of the cycle, `LOST_S` of green at each change of phase. `LOST_S`
is added to yellow and all-red; it is short because drivers use part of the yellow. Information used: hourly flows of each turn,
which engineers count; nothing during the run.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from tsc_marl.controllers import Controller
from tsc_marl.sim import signal_programs
from tsc_marl.sim.link_counts import LinkCounts
from tsc_marl.sim.planned_counts import LEAST_VEH_H, PERMISSIVE, SATURATION_VEH_H
from tsc_marl.sim.road_network import RoadNetwork, Signal, edge_of
from tsc_marl.sim.signal_limits import FIXED
from tsc_marl.sim.signal_timing import PhaseChanges
from tsc_marl.sim.turning_counts import PlanningContext, TurningCounts

LOST_S = 1.0
LEAST_S, MOST_S = 30, 120
MOST_SETS = 1000
"""Largest number of sets of phases that are tried: all sets of up to 9 phases. Each further phase doubles their number."""
SATURATED = 0.95
"""A signal whose flow ratio is above this gets the longest cycle."""


class Webster(Controller):
    """Fixed time with splits for the demand."""

    sumo_controlled = True

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        demanded = demands(context.network, context.turning_counts())
        pairs = zip(demanded, context.network.signals, strict=True)
        plans = [best_plan(demand, signal.changes(context.timing)) for demand, signal in pairs]
        self.programs = signal_programs.xml(context.network.signals, plans, context.timing)


@dataclass(frozen=True)
class PhaseDemand:
    """Demand at a signal: M turns over K links, J lanes, P phases. Links that no phase serves are left out."""

    serves: np.ndarray
    """[P, K] share of the saturation flow that a phase gives a link."""
    turn: np.ndarray
    """[M, K] bool: whether a link belongs to a turn."""
    lane: np.ndarray
    """[J, K] bool: whether a link belongs to a lane."""
    flow: np.ndarray
    """[M] flow of a turn, as a share of a lane's saturation flow."""


def demands(net: RoadNetwork, flows: TurningCounts) -> list[PhaseDemand]:
    """Return the demand at each signal."""
    links = LinkCounts(net)
    return [demand(signal, links.green[i], links.protected[i], flows, i) for i, signal in enumerate(net.signals)]


def demand(signal: Signal, green: np.ndarray, protected: np.ndarray, flows: TurningCounts, i: int) -> PhaseDemand:
    """Return the demand at signal number i."""
    used = [movement for movement in signal.links if green[:, movement.link].any()]
    turns = [(i, edge_of(movement.in_lane), edge_of(movement.out_lane)) for movement in used]
    lanes = [movement.in_lane for movement in used]
    return PhaseDemand(
        serves=np.where(protected, 1.0, np.where(green, PERMISSIVE, 0.0))[:, [movement.link for movement in used]],
        turn=np.array([[turn == other for turn in turns] for other in dict.fromkeys(turns)]),
        lane=np.array([[lane == other for lane in lanes] for other in dict.fromkeys(lanes)]),
        flow=np.array([max(flows.vehicles_per_hour.get(turn, 0.0), LEAST_VEH_H) for turn in dict.fromkeys(turns)])
        / SATURATION_VEH_H,
    )


def best_plan(demand: PhaseDemand, changes: PhaseChanges) -> signal_programs.Plan:
    """Return the plan with Webster's cycle; of a set of phases that keeps the longest reds, where there is one."""
    lengths = {phases: _exact_cycle_s(demand, phases, changes) for phases in candidates(demand, changes)}
    bounds_s = {phases: signal_programs.cycle_bounds_s(changes, phases) for phases in lengths}
    phases = min(lengths, key=lambda some: (bounds_s[some][0] > bounds_s[some][1], lengths[some]))
    return plan_of(demand, phases, lengths[phases], changes)


def planned_greens(demand: PhaseDemand, phases: tuple[int, ...], changes: PhaseChanges) -> tuple[int, ...]:
    """Return the greens [s] of these phases with Webster's cycle."""
    return plan_of(demand, phases, _exact_cycle_s(demand, phases, changes), changes).green_s


def _exact_cycle_s(demand: PhaseDemand, phases: tuple[int, ...], changes: PhaseChanges) -> float:
    """Return Webster's cycle before it is bounded."""
    ratio = flow_ratio(demand, phases)
    lost_s = sum(signal_programs.changes_s(changes, phases)) + LOST_S * len(phases)
    return (1.5 * lost_s + 5) / (1 - ratio) if ratio < SATURATED else 1e3 * ratio + len(phases)


def plan_of(demand: PhaseDemand, phases: tuple[int, ...], exact_s: float, changes: PhaseChanges) -> signal_programs.Plan:
    """Return the plan whose cycle is the exact one, within bounds and in whole seconds."""
    least_s, most_s = signal_programs.cycle_bounds_s(changes, phases)
    cycle_s = round(max(least_s, min(max(exact_s, LEAST_S), MOST_S, most_s)))
    return signal_programs.Plan(phases, splits(demand, phases, cycle_s, changes))


def candidates(demand: PhaseDemand, changes: PhaseChanges) -> list[tuple[int, ...]]:
    """Return the sets of two phases or more that serve every turn and crossing, fewest phases first; at most `MOST_SETS`.

    Of the phases that limits allow; in a fixed order all of them.
    """
    walks = changes.walks[:, changes.walks.any(axis=0)]
    able = np.hstack([(demand.serves > 0) @ demand.turn.T, walks])
    allowed, is_fixed = changes.allowed, changes.limits.order == FIXED
    sizes = range(len(allowed) if is_fixed else 2, len(allowed) + 1)
    sets = itertools.chain.from_iterable(itertools.combinations(allowed, k) for k in sizes)
    return list(itertools.islice((phases for phases in sets if able[list(phases)].any(axis=0).all()), MOST_SETS))


def flow_ratio(demand: PhaseDemand, phases: Sequence[int]) -> float:
    """Return Y, the least sum of the phases' shares that carries the demand."""
    return float(_program(demand, phases)[: len(phases)].sum())


def splits(demand: PhaseDemand, phases: Sequence[int], cycle_s: int, changes: PhaseChanges) -> tuple[int, ...]:
    """Return the greens [s] of a cycle that maximise the least reserve of capacity; whole seconds, within the bounds of each."""
    green_s, n = cycle_s - sum(signal_programs.changes_s(changes, phases)), len(phases)
    least_s, most_s = (np.array(of(changes, phases)) for of in (signal_programs.least_green_s, signal_programs.most_green_s))
    bounds = (np.maximum(0.0, least_s - LOST_S) / cycle_s, (most_s - LOST_S) / cycle_s)
    shares = _program(demand, phases, (green_s - n * LOST_S) / cycle_s, bounds)[:n]
    exact = shares * cycle_s + LOST_S
    whole = np.maximum(np.floor(exact + 1e-6).astype(int), least_s)
    for k in np.argsort(whole - exact, kind="stable")[: green_s - int(whole.sum())]:
        whole[k] += 1
    return tuple(int(g) for g in whole)


def _program(
    demand: PhaseDemand, phases: Sequence[int], total: float | None = None, within: tuple[np.ndarray, np.ndarray] | None = None
) -> np.ndarray:
    """Solve the linear program over (shares [P], flows [K], reserve); `total` None minimises the shares for reserve 1."""
    least, most = within or (np.zeros(len(phases)), np.full(len(phases), np.inf))
    serves = demand.serves[list(phases)]
    n_phases, n_links = serves.shape
    by_lane = np.array([serves[:, links].max(axis=1) for links in demand.lane])
    carried = np.block(
        [
            [-serves.T, np.eye(n_links), np.zeros((n_links, 1))],
            [-by_lane, demand.lane.astype(float), np.zeros((len(demand.lane), 1))],
        ]
    )
    sent = np.hstack([np.zeros((len(demand.flow), n_phases)), demand.turn.astype(float), -demand.flow[:, None]])
    whole = np.hstack([np.ones((1, n_phases)), np.zeros((1, n_links + 1))])
    fixed = total is not None
    result = linprog(
        np.append(np.zeros(n_phases + n_links), -1.0) if fixed else whole[0],
        A_ub=carried, b_ub=np.zeros(len(carried)),
        A_eq=np.vstack([sent, whole]) if fixed else sent,
        b_eq=np.append(np.zeros(len(sent)), total) if fixed else np.zeros(len(sent)),
        bounds=[*zip(least, most, strict=True)] + [(0, None)] * n_links + [(0, 100) if fixed else (1, 1)],
    )  # fmt: skip
    return result.x

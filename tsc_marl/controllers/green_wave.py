"""Green waves: Webster's plans with one cycle for all signals, and offsets by which platoons meet green.

The common cycle is the longest of the signals' own, and no longer than any signal's limits allow. A platoon leaves a signal
during the green of its turn and arrives at the next one after the travel time at the speed limit. The part that arrives in red
waits for green. The offsets minimise that waiting, weighted with the flows, by coordinate descent from several starts. This is
Hillier's combination method (Hillier and Rothery 1967, doi 10.1287/trsc.1.4.279) without dispersion of platoons, for any network
instead of a tree.

Parameters: those of `webster`, `STARTS`. Information used: hourly flows of each turn and of pairs of turns at consecutive
signals; nothing during the run. It cannot serve a network where no vehicle passes two signals one after the other, or whose
signals have no cycle in common.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tsc_marl.controllers import Controller
from tsc_marl.controllers.webster import best_plan, demands, splits
from tsc_marl.errors import UserError
from tsc_marl.sim import signal_programs
from tsc_marl.sim.road_network import Signal, edge_of
from tsc_marl.sim.signal_programs import Plan
from tsc_marl.sim.signal_timing import GREEN, PhaseChanges
from tsc_marl.sim.turning_counts import Movement, PlanningContext, TurningCounts

STARTS = 10


class GreenWave(Controller):
    """Coordinated fixed time."""

    sumo_controlled = True

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        flows, timing = context.turning_counts(), context.timing
        if not flows.pairs_per_hour:
            raise UserError(f"green_wave cannot serve {context.network_name}: no vehicle passes two signals one after the other")
        signals = context.network.signals
        demanded = demands(context.network, flows)
        changes = [signal.changes(timing) for signal in signals]
        alone = [best_plan(demand, own) for demand, own in zip(demanded, changes, strict=True)]
        cycle_s = self._common_cycle_s(alone, changes)
        known = zip(alone, demanded, changes, strict=True)
        plans = [replace(plan, green_s=splits(demand, plan.phases, cycle_s, own)) for plan, demand, own in known]
        greens = {turn: turn_green(signals[turn[0]], changes[turn[0]], plans[turn[0]], turn) for turn in flows.vehicles_per_hour}
        shifts = offsets(flows, greens, cycle_s, len(signals))
        plans = [replace(plan, offset_s=int(shift)) for plan, shift in zip(plans, shifts, strict=True)]
        self.programs = signal_programs.xml(signals, plans, timing)

    def _common_cycle_s(self, alone: Sequence[Plan], changes: Sequence[PhaseChanges]) -> int:
        bounds_s = [signal_programs.cycle_bounds_s(own, plan.phases) for plan, own in zip(alone, changes, strict=True)]
        names = [signal.name for signal in self.context.network.signals]
        least_s, slow = max((least_s, name) for (least_s, _), name in zip(bounds_s, names, strict=True))
        most_s, fast = min((most_s, name) for (_, most_s), name in zip(bounds_s, names, strict=True))
        if least_s > most_s:
            raise UserError(
                f"green_wave cannot serve {self.context.network_name}: signal {slow} needs a cycle of {least_s} s at least, and "
                f"signal {fast} may have {most_s:g} s at most; loosen their limits in scenario.yaml, or use another controller"
            )
        return int(min(most_s, max(plan.cycle_s(own) for plan, own in zip(alone, changes, strict=True))))


def turn_green(signal: Signal, changes: PhaseChanges, plan: Plan, turn: Movement) -> np.ndarray:
    """Return [C] bool: in which seconds of the cycle some link of a turn is green."""
    links = [m.link for m in signal.links if (edge_of(m.in_lane), edge_of(m.out_lane)) == turn[1:]]
    green = np.zeros(plan.cycle_s(changes), dtype=bool)
    for phase, start, length in zip(plan.phases, signal_programs.starts_s(plan, changes), plan.green_s, strict=True):
        if any(signal.phases[phase][link] in GREEN for link in links):
            green[start : start + length] = True
    return green


def offsets(flows: TurningCounts, greens: dict[Movement, np.ndarray], cycle_s: int, n: int) -> np.ndarray:
    """Return [N] offsets [s] that minimise the flow-weighted waiting of platoons."""
    pairs = [
        (before[0], after[0], flow * waiting(greens[before], greens[after], flows.travel_s[before, after]))
        for (before, after), flow in flows.pairs_per_hour.items()
        if before[0] != after[0]
    ]
    best, least = np.zeros(n, dtype=int), np.inf
    for start in range(STARTS):
        shift = np.random.default_rng(start).integers(cycle_s, size=n)
        cost = np.inf
        while True:
            for i in range(n):
                shift[i] = _costs(pairs, shift, i, cycle_s).argmin()
            total = sum(wait[(shift[j] - shift[i]) % cycle_s] for i, j, wait in pairs)
            if total >= cost - 1e-9:
                break
            cost = total
        if cost < least:
            best, least = shift.copy(), cost
    return best


def _costs(pairs: list[tuple[int, int, np.ndarray]], shift: np.ndarray, i: int, cycle_s: int) -> np.ndarray:
    """Return [C] what each offset of signal i costs, the others as they are."""
    trial, total = np.arange(cycle_s), np.zeros(cycle_s)
    for before, after, wait in pairs:
        if before == i:
            total += wait[(shift[after] - trial) % cycle_s]
        elif after == i:
            total += wait[(trial - shift[before]) % cycle_s]
    return total


def waiting(leaves: np.ndarray, passes: np.ndarray, travel_s: float) -> np.ndarray:
    """Return [C] the mean seconds that a platoon waits, by the offset of the second signal after the first.

    Args:
        leaves: [C] bool, the seconds of the first signal's cycle in which the platoon leaves, evenly.
        passes: [C] bool, the seconds of the second signal's cycle in which it may pass.
        travel_s: from stop line to stop line.
    """
    cycle_s = len(leaves)
    second = np.arange(cycle_s)
    to_green = np.array([np.argmax(np.roll(passes, -t)) for t in second]) if passes.any() else np.full(cycle_s, cycle_s)
    arrives = second[leaves] + round(travel_s)
    return np.array([to_green[(arrives - shift) % cycle_s].mean() for shift in second]) if leaves.any() else np.zeros(cycle_s)

"""Gap-actuated control: a green is extended while vehicles follow one another closely, between a least and a longest green.

Source: SUMO's `actuated` programs. Phases: those that are needed to give every link its best green, in the network's order.
Parameters: least green of the timing; longest green `MAX_GREEN_S`, shorter where the longest red needs it. Limits of a signal
bound both. `GAP_S` is the gap between two vehicles that ends a green. `DETECTOR_GAP_S` is the distance of the loop from the
stop line, in seconds at the speed limit. Information used: one loop detector per lane, as streets have it. A phase that serves
a lane whose detector is known to have failed runs as long as in a plan by `webster` for these phases.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from tsc_marl.controllers import Controller
from tsc_marl.controllers.webster import demands, planned_greens
from tsc_marl.sim import signal_programs
from tsc_marl.sim.signal_timing import GREEN
from tsc_marl.sim.turning_counts import PlanningContext

MAX_GREEN_S = 50
GAP_S = 3.0
DETECTOR_GAP_S = 2.0


class Actuated(Controller):
    """Leaves the lights to SUMO's gap-actuated programs."""

    sumo_controlled = True
    kind: ClassVar[str] = "actuated"
    parameters: ClassVar[dict[str, float]] = {"max-gap": GAP_S, "detector-gap": DETECTOR_GAP_S}

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        self._plans, timing = [], context.timing
        for signal in context.network.signals:
            phases = signal_programs.needed(changes := signal.changes(timing))
            most_s = tuple(signal_programs.longest_green_s(changes, phases, MAX_GREEN_S))
            greens = tuple(signal_programs.least_green_s(changes, phases))
            self._plans.append(signal_programs.Plan(phases, greens, 0, self.kind, most_s, self.parameters))
        self.programs = signal_programs.xml(context.network.signals, self._plans, timing)

    def programs_without(self, failed: np.ndarray) -> str:
        """Return the programs where the detectors of some lanes have failed."""
        if not failed.any():
            return self.programs
        net, timing = self.context.network, self.context.timing
        plans = list(self._plans)
        for i, demand in enumerate(demands(net, self.context.turning_counts())):
            signal, plan = net.signals[i], plans[i]
            blind = {lane for lane in signal.lanes if failed[net.lane_index[lane]]}
            served = [{m.in_lane for m in signal.links if signal.phases[phase][m.link] in GREEN} for phase in plan.phases]
            planned = zip(planned_greens(demand, plan.phases, signal.changes(timing)), plan.most_s, strict=True)
            greens = [min(green_s, most_s) for green_s, most_s in planned]
            fixed = [bool(lanes & blind) for lanes in served]
            least = np.where(fixed, greens, plan.green_s).tolist()
            most = np.where(fixed, greens, plan.most_s).tolist()
            detectors = dict.fromkeys(sorted(blind), "NO_DETECTOR")
            plans[i] = replace(plan, green_s=least, most_s=most, parameters={**plan.parameters, **detectors})
        return signal_programs.xml(net.signals, plans, timing)

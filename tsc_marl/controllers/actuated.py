"""Gap-actuated control: a green is extended while vehicles follow one another closely, between a least and a longest green.

Source: SUMO's `actuated` programs. Phases: those that are needed to give every link its best green, in the network's order.
Parameters: least green `timing.min_green_s`; longest green `MAX_GREEN_S`, shorter where `timing.max_red_s` needs it. `GAP_S` is
the gap between two vehicles that ends a green. `DETECTOR_GAP_S` is the distance of the loop from the stop line, in seconds
at the speed limit. Information used: one loop detector per lane, as streets have it.
"""

from typing import ClassVar

from tsc_marl.controllers import Controller
from tsc_marl.sim import signal_programs
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
        plans, timing = [], context.timing
        for signal in context.network.signals:
            phases = signal_programs.needed(signal.phases)
            most_s = signal_programs.longest_green_s(len(phases), timing, MAX_GREEN_S)
            greens = (timing.min_green_s,) * len(phases)
            plans.append(signal_programs.Plan(phases, greens, 0, self.kind, most_s, self.parameters))
        self.programs = signal_programs.xml(context.network.signals, plans, timing)

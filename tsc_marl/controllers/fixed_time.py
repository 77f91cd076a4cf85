"""The network's own signal programs, run by the clock: what most signals on the street do.

Source: the network file's `tlLogic`. An actuated program runs with the durations of its phases, as if no detector were
there. Information used: none. Its yellow and red times are the program's own.
"""

from tsc_marl.controllers import Controller
from tsc_marl.errors import UserError
from tsc_marl.sim import street_programs
from tsc_marl.sim.turning_counts import PlanningContext


class FixedTime(Controller):
    """Leaves the lights to static programs."""

    sumo_controlled = True

    def __init__(self, context: PlanningContext) -> None:
        super().__init__(context)
        for program in context.network.responsive:
            if not program.has_clock:
                raise UserError(
                    f"fixed_time cannot serve {context.network_name}: signal {program.signal} has a {program.kind} program "
                    "without a counterpart by the clock; use own_program"
                )
        self.programs = street_programs.by_the_clock(context.network.responsive)

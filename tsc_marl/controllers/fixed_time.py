"""The network's own signal programs, run by the clock: what stands on the street.

Source: the network file's `tlLogic`. Information used: none. Its yellow and red times are the program's own.
"""

from tsc_marl.controllers import Controller


class FixedTime(Controller):
    """Leaves the lights to SUMO."""

    sumo_controlled = True

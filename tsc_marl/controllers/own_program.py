"""The network's own signal programs, exactly as the files have them: static, actuated, delay-based or NEMA.

Source: the network file's `tlLogic`. Information used: the detectors of the programs that have some. On a network with static
programs only, it is the same as `fixed_time`.
"""

from tsc_marl.controllers import Controller


class OwnProgram(Controller):
    """Leaves the lights to SUMO."""

    sumo_controlled = True

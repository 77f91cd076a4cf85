"""Delay-actuated control: a green goes on while vehicles that lost time are near, between a least and a longest green.

Source: SUMO's `delay_based` programs (Oertel and Wagner 2011, Transportation Research Board). Phases and greens as in
`actuated`. Parameters: `REACH_M`, how far upstream vehicles are seen, `LOST_S` after which a vehicle counts. Information
used: every vehicle's time loss within reach, which needs cameras or connected vehicles.
"""

from typing import ClassVar

from tsc_marl.controllers.actuated import Actuated

REACH_M = 100.0
LOST_S = 1.0


class DelayBased(Actuated):
    """Leaves the lights to SUMO's delay-actuated programs."""

    kind: ClassVar[str] = "delay_based"
    parameters: ClassVar[dict[str, float]] = {"detectorRange": REACH_M, "minTimeLoss": LOST_S}

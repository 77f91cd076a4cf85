"""Traffic signal control with multi-agent reinforcement learning on SUMO."""

import os

__version__ = "0.2.0"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its threads, spinning beside a busy program, cost 30 times

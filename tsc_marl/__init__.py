"""Traffic signal control with multi-agent reinforcement learning on SUMO."""

__version__ = "0.1.0"

"""Traffic signal control with multi-agent reinforcement learning on SUMO."""

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsc_marl.api import evaluate, list_algorithms, list_controllers, list_networks, make, make_single, train
    from tsc_marl.api.pilot import Pilot
    from tsc_marl.api.results import EvaluationResult, SavedPolicy, TrainingResult, load_policy
    from tsc_marl.api.watchdog import Watchdog
    from tsc_marl.controllers import Controller
    from tsc_marl.errors import UserError
    from tsc_marl.sim.demand import Demand
    from tsc_marl.sim.feedback import SimConfig
    from tsc_marl.sim.metrics.base import Metric
    from tsc_marl.sim.observations.base import Observation
    from tsc_marl.sim.rewards.base import Reward
    from tsc_marl.sim.signal_timing import Timing
    from tsc_marl.types import Algorithm

__version__ = "0.2.0"

__all__ = [
    "Algorithm",
    "Controller",
    "Demand",
    "EvaluationResult",
    "Metric",
    "Observation",
    "Pilot",
    "Reward",
    "SavedPolicy",
    "SimConfig",
    "Timing",
    "TrainingResult",
    "UserError",
    "Watchdog",
    "__version__",
    "evaluate",
    "list_algorithms",
    "list_controllers",
    "list_networks",
    "load_policy",
    "make",
    "make_single",
    "train",
]

_MODULES = {
    "Algorithm": "types",
    "Controller": "controllers",
    "Demand": "sim.demand",
    "EvaluationResult": "api.results",
    "Metric": "sim.metrics.base",
    "Observation": "sim.observations.base",
    "Pilot": "api.pilot",
    "Reward": "sim.rewards.base",
    "SavedPolicy": "api.results",
    "SimConfig": "sim.feedback",
    "Timing": "sim.signal_timing",
    "TrainingResult": "api.results",
    "UserError": "errors",
    "Watchdog": "api.watchdog",
    "load_policy": "api.results",
}
"""Modules of the public names that are not in `api`; a module is imported when its name is first used."""

logging.getLogger(__name__).addHandler(logging.NullHandler())  # `console.show_log` prints; a library is silent
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its threads, spinning beside a busy program, cost 30 times


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import tsc_marl` itself takes milliseconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'api')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

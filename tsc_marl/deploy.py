"""A trained policy as other programs load it, through MLflow and without a simulation.

In three lines: `import mlflow`, `policy = mlflow.pyfunc.load_model("runs:/<run id>/policy")`,
`action = policy.predict({"obs": obs, "avail": avail})`.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsc_marl import algos
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import renames
from tsc_marl.types import Spec


def save(path: Path, policy: TrainedPolicy, spec: Spec, timing: Timing | None = None) -> None:
    """Write a policy with its weights, settings and signals, the sizes of its network, and the timing of its training."""
    content = {"name": policy.name, "config": asdict(policy.config), "weights": policy.weights, "spec": asdict(spec)}
    sim = None if policy.sim is None else asdict(policy.sim)
    torch.save(content | {"sim": sim, "signals": policy.signals, "timing": asdict(timing or Timing())}, path)


def load(path: Path) -> tuple[TrainedPolicy, Spec, Timing]:
    """Return what `save` wrote; earlier versions wrote no observation, signals or timing."""
    saved = torch.load(path, weights_only=True)
    name, sim = renames.variant(saved["name"]), saved.get("sim")
    config = algos.find(name).Config(**renames.algorithm_settings(saved["config"]))
    policy = TrainedPolicy(name, config, renames.weights(saved["weights"]), sim and SimConfig(**sim), saved.get("signals"))
    return policy, Spec(**saved["spec"]), Timing(**saved.get("timing", {}))


def _load_pyfunc(path: str) -> "Trained":
    """Return the policy in a file. MLflow calls this function by its name."""
    policy, spec, _ = load(Path(path))
    return Trained(policy, spec)


class Trained:
    """Chooses phases greedily. A recurrent policy remembers the decisions since the last `start`."""

    def __init__(self, policy: TrainedPolicy, spec: Spec) -> None:
        self._algorithm = policy.algorithm(spec)
        self._carry: Any = None

    def predict(self, observation: Mapping[str, np.ndarray], params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Choose a phase for every signal.

        Args:
            observation: `obs` [B, N, F], each signal's observation, and `avail` [B, N, A], its legal phases, as in `sim.env`.
            params: `start` True at the first decision of an episode; only recurrent policies need it.

        Returns [B, N], the numbers of the phases.
        """
        if params and params.get("start"):
            self._carry = None
        obs, avail = (torch.from_numpy(np.array(observation[name])) for name in ("obs", "avail"))
        with torch.inference_mode():
            action, _, self._carry = self._algorithm.act(obs, avail, self._carry, None)
        return action.numpy()

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
from tsc_marl.rollout.types import Policy
from tsc_marl.rollout.worker import load_algorithm
from tsc_marl.types import Spec


def save(path: Path, policy: Policy, spec: Spec) -> None:
    """Write all that choosing phases needs."""
    torch.save({"name": policy.name, "config": asdict(policy.config), "weights": policy.weights, "spec": asdict(spec)}, path)


def load(path: Path) -> tuple[Policy, Spec]:
    """Return what `save` wrote."""
    saved = torch.load(path, weights_only=True)
    policy = Policy(saved["name"], algos.find(saved["name"]).Config(**saved["config"]), saved["weights"])
    return policy, Spec(**saved["spec"])


def _load_pyfunc(path: str) -> "Trained":
    """Return the policy in a file; MLflow calls it by this name."""
    return Trained(*load(Path(path)))


class Trained:
    """Chooses phases greedily. A recurrent policy remembers the decisions since the last `start`."""

    def __init__(self, policy: Policy, spec: Spec) -> None:
        self._algorithm = load_algorithm(policy, spec)
        self._carry: Any = None

    def predict(self, given: Mapping[str, np.ndarray], params: Mapping[str, Any] | None = None) -> np.ndarray:
        """Choose a phase for every signal.

        Args:
            given: `obs` [B, N, F], what each signal sees, and `avail` [B, N, A], which phases it may choose, as in `sim.env`.
            params: `start` True at the first decision of an episode; only recurrent policies need it.

        Returns [B, N], the numbers of the phases.
        """
        if params and params.get("start"):
            self._carry = None
        obs, avail = (torch.from_numpy(np.array(given[name])) for name in ("obs", "avail"))
        with torch.inference_mode():
            action, _, self._carry = self._algorithm.act(obs, avail, self._carry, None)
        return action.numpy()

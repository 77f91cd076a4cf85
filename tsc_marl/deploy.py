"""A trained policy as other programs load it, through MLflow and without a simulation.

In three lines: `import mlflow`, `policy = mlflow.pyfunc.load_model("runs:/<run id>/policy")`,
`action = policy.predict({"obs": obs, "avail": avail})`.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, StrictInt, StrictStr
from torch import Tensor

from tsc_marl import algos
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.sim import fingerprint
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import renames, sealed, tensor_file
from tsc_marl.types import Movements, Spec


class _PolicyFile(BaseModel, extra="forbid", arbitrary_types_allowed=True):
    """Content of a file; earlier versions wrote no observation, its version, signals or timing."""

    name: StrictStr
    config: dict[StrictStr, Any]
    weights: dict[StrictStr, Tensor]
    spec: dict[StrictStr, Any]
    sim: dict[StrictStr, Any] | None = None
    timing: dict[StrictStr, Any] = {}
    signals: fingerprint.Signals | None = None
    observation_version: StrictInt = 1


def save(path: Path, policy: TrainedPolicy, spec: Spec, timing: Timing | None = None) -> None:
    """Write a policy with its weights, settings and signals, the sizes of its network, and the timing of its training.

    Raises:
        UserError: when the disk does not take it.
    """
    content = {"name": policy.name, "config": asdict(policy.config), "weights": policy.weights, "spec": asdict(spec)}
    content |= {"sim": None if policy.sim is None else asdict(policy.sim), "signals": policy.signals}
    content |= {"timing": asdict(timing or Timing()), "observation_version": policy.observation_version}
    tensor_file.save(path, content, "free some disk space and try again")


def load(path: Path) -> tuple[TrainedPolicy, Spec, Timing]:
    """Return what `save` wrote; earlier versions wrote no observation, signals or timing.

    Raises:
        UserError: when the file is damaged, no policy of this program, or of another version of its observation, or when its
            weights are not finite.
    """
    try:
        saved = _PolicyFile.model_validate(tensor_file.load(path))
        name, weights = renames.variant(saved.name), renames.weights(saved.weights)
        config = sealed.dataclass_from(algos.find(name).Config, renames.algorithm_settings(saved.config))
        spec, timing = _spec_from(saved.spec), sealed.dataclass_from(Timing, saved.timing)
        sim = None if saved.sim is None else sealed.dataclass_from(SimConfig, saved.sim)
    except (ValueError, TypeError) as error:  # TypeError: parts of `Movements` that are not its fields
        reason = sealed.first_line(error)
        raise UserError(f"policy {path} cannot be read ({reason}): it is damaged or no policy; use another") from None
    damaged = tensor_file.first_not_finite(weights)
    if damaged:
        raise UserError(f"policy {path} has weights {damaged} that are not finite; use another, or train again")
    policy = TrainedPolicy(name, config, weights, sim, saved.signals, saved.observation_version)
    if sim is not None and ":" not in sim.observation:  # where nobody observes, a user's own need not be installed
        policy.check_version()
    return policy, spec, timing


def _spec_from(values: dict[str, Any]) -> Spec:
    structure = values.get("movements")
    spec = sealed.dataclass_from(Spec, {name: value for name, value in values.items() if name != "movements"})
    return spec if structure is None else replace(spec, movements=Movements(**structure))


def _load_pyfunc(path: str) -> "Trained":
    """Return the policy in a file. MLflow calls this function by its name."""
    policy, spec, _ = load(Path(path))
    return Trained(policy, spec)


class Trained:
    """Chooses phases greedily. A recurrent policy remembers the decisions since the last `start`."""

    def __init__(self, policy: TrainedPolicy, spec: Spec) -> None:
        self.spec = spec
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

r"""HATRPO (Kuba et al. 2022, arXiv 2109.11251): HAPPO's sequence of agents with a trust-region step for each.

Let g be the gradient of the surrogate mean(rho F A). H is the Hessian of the mean KL(old || new) at the old policy, exact
over the legal actions. Conjugate gradients solve (H + damping I) x = g. The step is sqrt(2 delta / x'(H + damping I)x) x. A line
search shortens it until the KL is below delta and the surrogate has risen by a share of the rise that g predicts. Otherwise
the agent keeps its policy. There is no entropy bonus.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from tsc_marl import ops
from tsc_marl.algos.base import Minibatch
from tsc_marl.algos.happo import Happo, HappoConfig
from tsc_marl.bounds import Count, NonNegative, OpenShare, Positive
from tsc_marl.errors import UserError


@dataclass(frozen=True)
class HatrpoConfig(HappoConfig):
    """Settings of HATRPO."""

    entropy_coef: NonNegative = 0.0
    """Must be 0: the trust region has no entropy bonus."""
    delta: Positive = 0.01
    """Largest mean KL divergence of an agent's step."""
    damping: Positive = 0.1
    """Number added to the diagonal of the KL's Hessian."""
    cg_steps: Count = 10
    """Iterations of the conjugate gradient."""
    backtracks: Count = 10
    """Tries of the line search."""
    shrink: OpenShare = 0.8
    """Factor of the step from one try to the next."""
    accept: OpenShare = 0.5
    """Smallest share of the predicted rise of the surrogate that is accepted."""

    def __post_init__(self) -> None:
        """Refuse an entropy bonus."""
        super().__post_init__()
        if self.entropy_coef:
            raise UserError(f"algo.entropy_coef must be 0, hatrpo's trust region has no entropy bonus; got {self.entropy_coef}")


class Hatrpo(Happo[HatrpoConfig]):
    """Sequential TRPO."""

    Config = HatrpoConfig

    def step_agent(self, i: int, rows: Minibatch) -> list[dict[str, float]]:
        """Take one trust-region step on agent i alone, or none."""
        config, parameters = self.config, list(self.learners[i].parameters())
        before, old = self.agent_log_policy(i, rows).detach(), parameters_to_vector(parameters).detach()

        def surrogate() -> tuple[Tensor, Tensor]:
            logp = self.agent_log_policy(i, rows)
            ratio = (ops.gather_actions(logp, rows.action) - rows.logp).exp()
            gain = ops.masked_mean(ratio * rows.extras["factor"] * rows.advantage, rows.active)
            return gain, ops.masked_mean(ops.kl(before, logp), rows.active)

        gain, divergence = surrogate()
        gradient = _flat(torch.autograd.grad(gain, parameters, retain_graph=True))
        slope = _flat(torch.autograd.grad(divergence, parameters, create_graph=True))

        def curvature(v: Tensor) -> Tensor:
            return _flat(torch.autograd.grad(slope @ v, parameters, retain_graph=True)) + config.damping * v

        direction = ops.conjugate_gradient(curvature, gradient, config.cg_steps)
        length = direction @ curvature(direction)
        if not (length > 0 and length.isfinite()):  # no row with a choice, or no advantage
            return [{"trust/accepted": 0.0}]
        step = (2 * config.delta / length).sqrt() * direction
        for j in range(config.backtracks):
            share = config.shrink**j
            vector_to_parameters(old + share * step, parameters)
            with torch.no_grad():
                new, moved = surrogate()
            ratio = (new - gain) / (share * gradient @ step)
            if moved < config.delta and new > gain and ratio > config.accept:
                metrics = {"trust/accepted": 1.0, "trust/tries": float(j + 1), "trust/ratio": float(ratio.detach())}
                return [metrics | {"policy/kl": float(moved)}]
        vector_to_parameters(old, parameters)
        return [{"trust/accepted": 0.0}]


def _flat(tensors: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])

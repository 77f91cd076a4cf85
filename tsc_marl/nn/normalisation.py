"""Normalisation of value targets: ValueNorm and PopArt."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tsc_marl.nn.agent import GroupLinear


class ValueNorm(nn.Module):
    """Debiased running mean and deviation of targets (ValueNorm of arXiv 2103.01955), for all agents together or for each."""

    mean_sum: Tensor
    square_sum: Tensor
    weight: Tensor

    def __init__(self, decay: float, n_agents: int | None = None) -> None:
        super().__init__()
        self.decay = decay
        for name in ("mean_sum", "square_sum", "weight"):
            self.register_buffer(name, torch.zeros(() if n_agents is None or name == "weight" else n_agents))

    def state_here(self, state: Mapping[str, Tensor], prefix: str) -> Mapping[str, Tensor]:
        """Return a state in which the moments below `prefix` are those for as many agents as here: of others the mean."""
        names = [name for name in (prefix + "mean_sum", prefix + "square_sum") if name in state]
        shape = self.mean_sum.shape
        return {**state, **{name: state[name].mean().expand(shape) for name in names if state[name].shape != shape}}

    def update(self, x: Tensor) -> None:
        """Take in one batch of targets, any shape; [..., N] with one normaliser per agent."""
        axes = tuple(range(x.dim() - self.mean_sum.dim()))
        for name, new in (("mean_sum", x.mean(axes)), ("square_sum", (x**2).mean(axes)), ("weight", torch.ones(()))):
            getattr(self, name).mul_(self.decay).add_(new * (1 - self.decay))

    @property
    def mean(self) -> Tensor:
        return self.mean_sum / self.weight.clamp(min=1e-8)

    @property
    def deviation(self) -> Tensor:
        variance = self.square_sum / self.weight.clamp(min=1e-8) - self.mean**2
        return torch.where(self.weight > 0, variance.clamp(min=1e-4).sqrt(), torch.ones(()))

    @torch.no_grad()
    def update_preserving(self, x: Tensor, head: GroupLinear) -> None:
        """Take in one batch of targets, and rescale a head's first output so that its restored predictions stay the same.

        PopArt (van Hasselt et al. 2016, arXiv 1602.07714): w <- w s / s', b <- (s b + m - m') / s'.
        """
        mean, deviation = self.mean, self.deviation
        self.update(x)
        head.weight[:, 0] *= deviation / self.deviation
        head.bias[:, 0] = (deviation * head.bias[:, 0] + mean - self.mean) / self.deviation

    def normalise(self, x: Tensor) -> Tensor:
        """Return (x - mean) / deviation."""
        return (x - self.mean) / self.deviation

    def restore(self, x: Tensor) -> Tensor:
        """Return x deviation + mean, the inverse of `normalise`."""
        return x * self.deviation + self.mean

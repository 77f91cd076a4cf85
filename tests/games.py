"""Small games that speak `Batch`: what an algorithm learns on them is known beforehand."""

from typing import Protocol

import torch
from torch import Tensor

from tsc_marl.types import Algorithm, Batch, Spec


class Game(Protocol):
    """B copies of one game, which goes on for ever: a batch is a cut out of it."""

    spec: Spec

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return obs [B, N, F], avail [B, N, A], state [B, S]."""
        ...

    def step(self, action: Tensor) -> Tensor:
        """Take actions [B, N]; return rewards [B, N]."""
        ...


@torch.no_grad()
def collect(game: Game, algorithm: Algorithm, steps: int, generator: torch.Generator | None) -> Batch:
    """Play `steps` steps; the last one is a truncation."""
    seen, actions, rewards, extras, carry = [game.observe()], [], [], [], None
    for _ in range(steps):
        action, extra, carry = algorithm.act(*seen[-1][:2], carry, generator)
        rewards.append(game.step(action))
        actions.append(action)
        extras.append(extra)
        seen.append(game.observe())
    obs, avail, state = (torch.stack(column) for column in zip(*seen, strict=True))
    cut = torch.zeros(steps, len(state[0]), dtype=torch.bool)
    cut[-1] = True
    joined = {name: torch.stack([extra[name] for extra in extras]) for name in extras[0]}
    return Batch(obs, avail, state, torch.stack(actions), torch.stack(rewards), torch.zeros_like(cut), cut, joined)


def ring(n: int) -> tuple[tuple[int, ...], ...]:
    """Agent i's neighbour is i + 1."""
    return tuple(((i + 1) % n,) for i in range(n))


class Noise:
    """Random observations, masks (one row in four is forced) and rewards: for shapes and plumbing."""

    def __init__(self, n: int = 3, n_actions: int = 4, envs: int = 8, seed: int = 0) -> None:
        self.spec = Spec("noise", tuple(f"agent{i}" for i in range(n)), n_actions, 5, 6, ring(n))
        self.envs, self.random = envs, torch.Generator().manual_seed(seed)

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        size, a = (self.envs, self.spec.n_agents), self.spec.n_actions
        one = torch.nn.functional.one_hot(torch.randint(a, size, generator=self.random), a).bool()
        free = torch.rand(*size, 1, generator=self.random) > 0.25
        avail = one | (free & (torch.rand(*size, a, generator=self.random) > 0.4))
        obs = torch.randn(*size, self.spec.obs_dim, generator=self.random)
        return obs, avail, torch.randn(self.envs, self.spec.state_dim, generator=self.random)

    def step(self, action: Tensor) -> Tensor:
        return torch.randn(action.shape, generator=self.random)


class RingDump:
    """n agents on a ring; to act pays 1 now and costs the next agent 2 one step later (algorithms.md 4.8, `delayed`).

    R^i = a_i - 2 z_i + noise, z'_{i+1} = a_i. The team's optimum is never to act (0 per agent and step), the selfish
    equilibrium is always to act (-1).
    """

    def __init__(self, n: int, envs: int = 16, seed: int = 0) -> None:
        self.spec = Spec("ring-dump", tuple(f"agent{i}" for i in range(n)), 2, 2, n, ring(n))
        self.random = torch.Generator().manual_seed(seed)
        self.z = torch.randint(2, (envs, n), generator=self.random)

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.nn.functional.one_hot(self.z, 2).float(), torch.ones(*self.z.shape, 2, dtype=torch.bool), self.z.float()

    def step(self, action: Tensor) -> Tensor:
        reward = action - 2 * self.z + 0.5 * torch.randn(self.z.shape, generator=self.random)
        self.z = action.roll(1, dims=1)
        return reward

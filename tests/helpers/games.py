"""Small games that speak `Batch`: what an algorithm learns on them is known beforehand."""

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tsc_marl import algos
from tsc_marl.algos.base import Minibatch
from tsc_marl.benchmarks.mpe import Game, collect, ring
from tsc_marl.training.learner import Learner
from tsc_marl.types import Algorithm, Spec

ONE_PASS = ("ia2c", "maa2c", "coma")
"""Those whose every sample is used once."""


def fitting(name: str, **settings: object) -> dict[str, object]:
    """Return those of the settings that the algorithm has, with a single epoch where it allows no more."""
    known = {field.name for field in fields(algos.find(name).Config)}
    settings |= {"epochs": 1} if name in ONE_PASS else {}
    return {key: value for key, value in settings.items() if key in known}


def train(name: str, game: Game, batches: int, steps: int, seed: int = 0, **settings: object) -> Algorithm:
    """Return an algorithm after `batches` x `steps` steps of a game: the very code that learns on traffic."""
    torch.manual_seed(seed)
    cls = algos.find(name)
    algorithm = cls(game.spec, cls.Config(**settings))
    learner, generator = Learner(algorithm), torch.Generator().manual_seed(seed)
    for i in range(batches):
        learner.learn(collect(game, algorithm, steps, generator), i / batches)
    return algorithm


def greedy_return(game: Game, algorithm: Algorithm, steps: int) -> float:
    """Return the mean over copies of the first agent's summed reward in `steps` greedy steps."""
    return float(collect(game, algorithm, steps, None).reward[..., 0].sum(0).mean())


class Noise:
    """Random observations, masks (one row in four is forced) and rewards: for shapes and plumbing."""

    def __init__(self, n: int = 3, n_actions: int = 4, envs: int = 8, seed: int = 0) -> None:
        self.spec = Spec("noise", tuple(f"agent{i}" for i in range(n)), n_actions, 5, 6, ring(n))
        self.envs, self.random = envs, torch.Generator().manual_seed(seed)

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        size, a = (self.envs, self.spec.n_agents), self.spec.n_actions
        one = one_hot(torch.randint(a, size, generator=self.random), a).bool()
        free = torch.rand(*size, 1, generator=self.random) > 0.25
        avail = one | (free & (torch.rand(*size, a, generator=self.random) > 0.4))
        obs = torch.randn(*size, self.spec.obs_dim, generator=self.random)
        return obs, avail, torch.randn(self.envs, self.spec.state_dim, generator=self.random)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randn(action.shape, generator=self.random), torch.zeros(self.envs, dtype=torch.bool)


class RingDump:
    """n agents on a ring: to act pays 1 and has a price of 2. Noise deviates by .5.

    `delayed` (z'_{i+1} = a_i): R^i = a_i - 2 z_i, the next agent pays a step later; `instant`: R^i = a_i - 2 a_{i-1}, it pays
    at once, and z is random; `own` (z'_i = a_i): who acts pays a step later. The team's optimum is never to act (0 per agent
    and step). Who minds only its own reward always acts in the first two (-1).
    """

    def __init__(self, n: int, envs: int = 16, seed: int = 0, kind: str = "delayed") -> None:
        self.spec = Spec("ring-dump", tuple(f"agent{i}" for i in range(n)), 2, 2, n, ring(n))
        self.random, self.kind = torch.Generator().manual_seed(seed), kind
        self.z = torch.randint(2, (envs, n), generator=self.random)

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        return one_hot(self.z, 2).float(), torch.ones(*self.z.shape, 2, dtype=torch.bool), self.z.float()

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        price = action.roll(1, dims=1) if self.kind == "instant" else self.z
        reward = action - 2 * price + 0.5 * torch.randn(self.z.shape, generator=self.random)
        shuffled = torch.randint(2, self.z.shape, generator=self.random)
        self.z = {"delayed": action.roll(1, dims=1), "own": action, "instant": shuffled}[self.kind]
        return reward, torch.zeros(len(reward), dtype=torch.bool)


class Bandits:
    """n agents with arms of their own, one shot: R^i = pay^i[a^i] + a normal deviate of deviation noise^i.

    `lazy`: of two arms, the second is right; it pays the first agent 5 (noise 5) and each of the others .5 (noise .1).
    """

    def __init__(self, pay: Tensor, noise: Tensor, envs: int = 128, seed: int = 0) -> None:
        n, arms = pay.shape
        self.pay, self.noise, self.envs = pay, noise, envs
        self.random = torch.Generator().manual_seed(seed)
        self.spec = Spec("bandits", tuple(f"agent{i}" for i in range(n)), arms, 1, 1, ring(n))

    @staticmethod
    def lazy(small: int, envs: int = 128, seed: int = 0) -> "Bandits":
        """Return one dominant agent among `small` small ones."""
        pay = torch.tensor([[0.0, 5.0]] + [[0.0, 0.5]] * small)
        return Bandits(pay, torch.tensor([5.0] + [0.1] * small), envs, seed)

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        n = len(self.pay)
        avail = torch.ones(self.envs, n, self.spec.n_actions, dtype=torch.bool)
        return torch.ones(self.envs, n, 1), avail, torch.ones(self.envs, 1)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.pay.expand(self.envs, -1, -1).gather(-1, action.unsqueeze(-1)).squeeze(-1)
        noise = self.noise * torch.randn(mean.shape, generator=self.random)
        return mean + noise, torch.ones(self.envs, dtype=torch.bool)


class Cue:
    """Each of two agents sees a cue of its own, 0 or 1, at step 0 only, and is paid 1 if it repeats it at step 5."""

    STEPS = 6

    def __init__(self, envs: int = 64, seed: int = 0) -> None:
        self.envs, self.time = envs, 0
        self.random = torch.Generator().manual_seed(seed)
        self.cue = torch.randint(2, (envs, 2), generator=self.random)
        self.spec = Spec("cue", ("first", "second"), 2, 3, 3, ((1,), (0,)))

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        cue = one_hot(self.cue, 2).float() * float(self.time == 0)
        last = torch.full((self.envs, 2, 1), float(self.time == self.STEPS - 1))
        obs = torch.cat([cue, last], dim=-1)
        return obs, torch.ones(self.envs, 2, 2, dtype=torch.bool), obs[:, 0]

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        end = self.time == self.STEPS - 1
        reward = (action == self.cue).float() * float(end)
        self.time = 0 if end else self.time + 1
        if end:
            self.cue = torch.randint(2, self.cue.shape, generator=self.random)
        return reward, torch.full((self.envs,), end)


class Gate:
    """Two agents may go, action 1, at every third step only; to go pays 1, to stay nothing."""

    def __init__(self, envs: int = 16) -> None:
        self.envs, self.time = envs, 0
        self.spec = Spec("gate", ("first", "second"), 2, 3, 3, ((1,), (0,)))

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        state = one_hot(torch.tensor(self.time), 3).float().expand(self.envs, 3)
        avail = torch.tensor([True, self.time == 2]).expand(self.envs, 2, 2)
        return state.unsqueeze(1).expand(-1, 2, -1), avail, state

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        if self.time != 2 and action.any():
            raise AssertionError("an illegal action was taken")
        self.time = (self.time + 1) % 3
        return action.float(), torch.zeros(self.envs, dtype=torch.bool)


CLIMBING = [[11, -30, 0], [-30, 7, 0], [0, 6, 5]]
QTRAN_PAYOFF = [[8, -12, -12], [-12, 0, 0], [-12, 0, 0]]


def penalty(k: float) -> list[list[float]]:
    """Return the penalty game's payoff."""
    return [[k, 0, 10], [0, 2, 0], [10, 0, k]]


class Matrix:
    """One shot: both of two agents get payoff[a0][a1]. Nothing is seen but a constant."""

    def __init__(self, payoff: Sequence[Sequence[float]], envs: int = 64) -> None:
        self.payoff, self.envs = torch.tensor(payoff, dtype=torch.float), envs
        self.spec = Spec("matrix", ("row", "column"), len(payoff), 1, 1, ((1,), (0,)))

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        avail = torch.ones(self.envs, 2, self.spec.n_actions, dtype=torch.bool)
        return torch.ones(self.envs, 2, 1), avail, torch.ones(self.envs, 1)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        reward = self.payoff[action[:, 0], action[:, 1]]
        return reward.unsqueeze(-1).expand(-1, 2), torch.ones(self.envs, dtype=torch.bool)


class Sign(Matrix):
    """Both get a1 a2 with actions -1 and +1: the discrete twin of a product of Gaussians."""

    def __init__(self, envs: int = 64) -> None:
        super().__init__([[1.0, -1.0], [-1.0, 1.0]], envs)


class TwoStep:
    """QMIX's two-step game: agent 0 picks game A (all 7) or B ([[0, 1], [1, 8]]), which is played next."""

    def __init__(self, envs: int = 64) -> None:
        self.spec = Spec("two-step", ("first", "second"), 2, 3, 3, ((1,), (0,)))
        self.place = torch.zeros(envs, dtype=torch.long)
        self.payoff = torch.tensor([[[7.0, 7.0], [7.0, 7.0]], [[0.0, 1.0], [1.0, 8.0]]])

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        state = one_hot(self.place, 3).float()
        return state.unsqueeze(1).expand(-1, 2, -1), torch.ones(len(state), 2, 2, dtype=torch.bool), state

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        ended = self.place > 0
        reward = torch.where(ended, self.payoff[self.place.clamp(min=1) - 1, action[:, 0], action[:, 1]], 0.0)
        self.place = torch.where(ended, 0, 1 + action[:, 0])
        return reward.unsqueeze(-1).expand(-1, 2), ended


class Xor:
    """One shot, n agents alike: all get 1 when one half plays 0 and the other half 1, else 0.

    With two agents this is also the junction: exactly one may go.
    """

    def __init__(self, n: int, envs: int = 64) -> None:
        self.envs, self.half = envs, torch.arange(n) < n // 2
        self.spec = Spec("xor", tuple(f"agent{i}" for i in range(n)), 2, 1, 1, ring(n))

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        avail = torch.ones(self.envs, len(self.half), 2, dtype=torch.bool)
        return torch.ones(self.envs, len(self.half), 1), avail, torch.ones(self.envs, 1)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        first = action.bool() ^ self.half
        reward = (first.all(1) | (~first).all(1)).float()
        return reward.unsqueeze(-1).expand_as(action).float(), torch.ones(self.envs, dtype=torch.bool)


class Pushes:
    """Agents push a point: x' = .5 x + noise + (a - 1) for type 0, - (a - 1) for type 1, and get R^i = x'_0.

    Each sees its own point alone. Type 0 should always play 2 and type 1 always 0: R^i rises to 2 then. Who knows neither
    type nor number cannot do better than 0. The last column is padding, 0 for ever, for all agents but those of `wide`.
    """

    def __init__(self, types: Sequence[int], wide: Sequence[int] = (), envs: int = 16, seed: int = 0) -> None:
        n = len(types)
        self.sign = 1.0 - 2 * torch.tensor(types)
        self.wide = torch.tensor([[float(i in wide)] for i in range(n)])
        self.spec = Spec("pushes", tuple(f"agent{i}" for i in range(n)), 3, 3, 2 * n, ring(n))
        self.random = torch.Generator().manual_seed(seed)
        self.x = torch.randn(envs, n, 2, generator=self.random)

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        extra = torch.rand(*self.x.shape[:-1], 1, generator=self.random) * self.wide
        return torch.cat([self.x, extra], -1), torch.ones(*self.x.shape[:-1], 3, dtype=torch.bool), self.x.flatten(1)

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        push = torch.stack([self.sign * (action - 1), torch.zeros(action.shape)], dim=-1)
        self.x = 0.5 * self.x + push + 0.3 * torch.randn(self.x.shape, generator=self.random)
        return self.x[..., 0], torch.zeros(len(action), dtype=torch.bool)


def minibatch(n_actions, action, **tensors):
    """A minibatch of some tensors; the others are zeros, and every action is legal."""
    zeros = torch.zeros(action.shape)
    defaults = {
        "obs": zeros.unsqueeze(-1), "avail": torch.ones(*action.shape, n_actions, dtype=torch.bool), "state": zeros[..., :1],
        "probs": torch.full((*action.shape, n_actions), 1 / n_actions),
    }  # fmt: skip
    defaults |= {name: zeros for name in ("logp", "active", "value", "target", "raw_advantage", "advantage")}
    return Minibatch(action=action, **defaults | tensors)

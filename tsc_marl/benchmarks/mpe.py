"""simple_spread of the multi-agent particle environments, with many copies at once; `make bench-mpe` trains on it.

The physics, observations and rewards are those of MPE2's simple_spread_v3 (tests/test_spread.py compares them step by
step). Published returns are in OpenAI's convention. There the cost of a step is the sum of the landmarks' distances to their
nearest agents, plus the collisions; a body collides with itself too. Every agent gets minus that cost, summed over agents. With
MPE2's per-agent rewards r^i at local ratio 0.5 the convention's reward is 2 sum_i r^i - 3 per step.
"""

import itertools
import logging
import time
from dataclasses import dataclass, field
from typing import Protocol

import torch
import tyro
from torch import Tensor

from tsc_marl import algos, console
from tsc_marl.bounds import Count, check
from tsc_marl.evaluation.tables import Column, Row, number, terminal_table
from tsc_marl.training.learner import Learner
from tsc_marl.types import Algorithm, Batch, Spec

log = logging.getLogger("tsc_marl.benchmarks.mpe")  # `python -m` calls this module __main__

STEPS, N, DT, DAMPING, REACH, MARGIN, STIFF, THRUST = 25, 3, 0.1, 0.25, 0.3, 1e-3, 100.0, 5.0
PUSH = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
PUBLISHED = {
    "iql": -132.6, "ia2c": -134.4, "ippo": -133.9, "maddpg": -141.7, "coma": -204.3, "maa2c": -129.9, "mappo": -133.5,
    "vdn": -131.0, "qmix": -126.6,
}  # fmt: skip
"""EPyMARL's paper (Papoudakis et al. 2021, arXiv 2006.07869), quoted from memory; on-policy algorithms after more than ten times
as many steps."""


class Game(Protocol):
    """B copies of one game without an end: it continues or starts again, and a batch is a part of it."""

    spec: Spec

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return obs [B, N, F], avail [B, N, A], state [B, S]."""
        ...

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        """Take actions [B, N]; return rewards [B, N] and where the game ended [B]; `observe` shows its next start then."""
        ...


@torch.no_grad()
def collect(game: Game, algorithm: Algorithm, steps: int, generator: torch.Generator | None) -> Batch:
    """Play `steps` steps; the last one is a truncation, unless the game ended there."""
    observed, actions, rewards, ended, extras, carry = [game.observe()], [], [], [], [], None
    for _ in range(steps):
        action, extra, carry = algorithm.act(*observed[-1][:2], carry, generator)
        reward, end = game.step(action)
        rewards.append(reward)
        ended.append(end)
        actions.append(action)
        extras.append(extra)
        observed.append(game.observe())
    obs, avail, state = (torch.stack(column) for column in zip(*observed, strict=True))
    terminated = torch.stack(ended)
    truncated = torch.zeros_like(terminated)
    truncated[-1] = ~terminated[-1]
    joined = {name: torch.stack([extra[name] for extra in extras]) for name in extras[0]}
    return Batch(obs, avail, state, torch.stack(actions), torch.stack(rewards), terminated, truncated, joined)


def ring(n: int) -> tuple[tuple[int, ...], ...]:
    """Agent i's neighbour is i + 1."""
    return tuple(((i + 1) % n,) for i in range(n))


class Spread:
    """B copies of an episode of 25 steps; `begin` starts them anew."""

    def __init__(self, envs: int = 128, seed: int = 0) -> None:
        self.envs, self.random = envs, torch.Generator().manual_seed(seed)
        self.spec = Spec("spread", tuple(f"agent{i}" for i in range(N)), len(PUSH), 18, 18, ring(N))
        self.begin()

    def begin(self) -> None:
        self.place = 2 * torch.rand(self.envs, N, 2, generator=self.random) - 1
        self.landmarks = 2 * torch.rand(self.envs, N, 2, generator=self.random) - 1
        self.speed = torch.zeros(self.envs, N, 2)

    def observe(self) -> tuple[Tensor, Tensor, Tensor]:
        to_landmarks = (self.landmarks.unsqueeze(1) - self.place.unsqueeze(2)).flatten(2)
        between = self.place.unsqueeze(1) - self.place.unsqueeze(2)
        others = torch.stack([between[:, i, [j for j in range(N) if j != i]] for i in range(N)], dim=1).flatten(2)
        silence = torch.zeros(self.envs, N, 2 * (N - 1))
        obs = torch.cat([self.speed, self.place, to_landmarks, others, silence], dim=-1)
        state = torch.cat([self.place, self.speed, self.landmarks], dim=-1).flatten(1)
        return obs, torch.ones(self.envs, N, len(PUSH), dtype=torch.bool), state

    def step(self, action: Tensor) -> tuple[Tensor, Tensor]:
        force = THRUST * PUSH[action] + self._contact()
        self.place = self.place + self.speed * DT
        self.speed = self.speed * (1 - DAMPING) + force * DT
        nearest = (self.landmarks.unsqueeze(1) - self.place.unsqueeze(2)).norm(dim=-1).amin(1).sum(-1)
        gap = (self.place.unsqueeze(1) - self.place.unsqueeze(2)).norm(dim=-1)
        collisions = (gap < REACH).sum(-1) - 1
        reward = 0.5 * (-nearest.unsqueeze(-1) - collisions)
        return reward, torch.zeros(self.envs, dtype=torch.bool)

    def _contact(self) -> Tensor:
        """Return the force [B, N, 2] that bodies push each other apart with."""
        delta = self.place.unsqueeze(2) - self.place.unsqueeze(1)
        gap = delta.norm(dim=-1, keepdim=True)
        depth = MARGIN * torch.logaddexp(torch.zeros(()), -(gap - REACH) / MARGIN)
        return torch.where(gap > 0, STIFF * delta / gap.clamp(min=1e-12) * depth, 0.0).sum(2)


def openai(reward: Tensor) -> Tensor:
    """Return the episodes' returns [B] in OpenAI's convention, from per-agent rewards [25, B, N]."""
    return (2 * reward.sum(-1) - 3).sum(0)


def heuristic(game: Spread) -> Tensor:
    """Return the actions [B, N] towards the landmarks of the assignment with the least total distance."""
    gaps = (game.landmarks.unsqueeze(1) - game.place.unsqueeze(2)).norm(dim=-1)
    orders = torch.tensor(list(itertools.permutations(range(N))))
    total = torch.stack([gaps[:, range(N), order].sum(-1) for order in orders])
    target = game.landmarks[torch.arange(game.envs).unsqueeze(1), orders[total.argmin(0)]]
    way = target - game.place - 0.35 * game.speed
    axis = way.abs().argmax(-1)
    ahead = way.gather(-1, axis.unsqueeze(-1)).squeeze(-1)
    return torch.where(ahead.abs() < 0.03, 0, 1 + 2 * axis + (ahead > 0).long())


def scripted(envs: int, seed: int, random: bool) -> Tensor:
    """Return the returns [B] of random actions or of the heuristic."""
    game = Spread(envs, seed)
    draw = torch.Generator().manual_seed(seed)
    rewards = []
    for _ in range(STEPS):
        action = torch.randint(len(PUSH), (envs, N), generator=draw) if random else heuristic(game)
        rewards.append(game.step(action)[0])
    return openai(torch.stack(rewards))


def settings(config: type) -> dict[str, object]:
    """Return the settings in which MPE differs from an algorithm's defaults, which are for traffic.

    A speed decays within ten steps (a quarter of it in each): discounts of .99 and .95 add only noise. Algorithms that pass
    over a batch once by default do so here too.
    """
    values = {
        "gamma": 0.95,
        "gae_lambda": 0.8,
        "lr": 7e-4,
        "hidden": (128, 128),
        "critic_hidden": (128, 128),
        "replay_episodes": 5000,
        "sequence_length": STEPS,
        "batch_size": 32,
        "gradient_steps": 40,
        "epochs": 10,
    }
    fields = config.__dataclass_fields__
    if "epochs" in fields and fields["epochs"].default == 1:
        del values["epochs"]
    return {key: value for key, value in values.items() if key in fields}


@dataclass(frozen=True)
class MpeOptions:
    """Train algorithms on simple_spread and compare their greedy returns with published ones."""

    algos: tuple[str, ...] = field(default_factory=lambda: tuple(algos.available()))
    """Algorithms to train; default all."""
    batches: Count = 500
    """Batches of training, 3200 steps each."""
    seeds: Count = 1
    """Training seeds of each algorithm, from 0."""

    def __post_init__(self) -> None:
        check(self)


def train(name: str, seed: int, batches: int) -> float:
    """Train an algorithm and return its mean greedy return."""
    torch.manual_seed(seed)
    cls = algos.find(name)
    game = Spread(128, seed)
    algorithm = cls(game.spec, cls.Config(**settings(cls.Config)))
    learner, generator = Learner(algorithm), torch.Generator().manual_seed(seed)
    for i in range(batches):
        game.begin()
        learner.learn(collect(game, algorithm, STEPS, generator), i / batches)
        if i % 100 == 99:
            log.info("%s s%d  %d/%d  %.1f", name, seed, i + 1, batches, greedy_return(algorithm, 256, 10_000))
    return greedy_return(algorithm, 1024, 20_000)


def greedy_return(algorithm: Algorithm, envs: int, seed: int) -> float:
    """Return the mean return of the greedy policy."""
    return float(openai(collect(Spread(envs, seed), algorithm, STEPS, None).reward).mean())


COLUMNS = (
    Column("policy", "policy"),
    Column("return", "return", number(".1f")),
    Column("seeds", "of each seed", lambda returns: " ".join(f"{value:.1f}" for value in returns)),
    Column("published", "published"),
    Column("minutes", "minutes a seed", number(".1f")),
)


def run(options: MpeOptions) -> None:
    """Train each algorithm; print its greedy return beside random actions, the heuristic and the published return."""
    torch.set_num_threads(1)
    rows: list[Row] = [
        {"policy": "random", "return": float(scripted(4096, 1, random=True).mean()), "published": "-230"},
        {"policy": "greedy assignment", "return": float(scripted(4096, 1, random=False).mean()), "published": "-122"},
    ]
    for name in options.algos:
        start = time.monotonic()
        returns = [train(name, seed, options.batches) for seed in range(options.seeds)]
        minutes = (time.monotonic() - start) / 60 / options.seeds
        row = {"policy": name, "return": sum(returns) / options.seeds, "seeds": returns, "minutes": minutes}
        rows.append(row | ({"published": PUBLISHED[name]} if name in PUBLISHED else {}))
    steps = f"{options.batches * 128 * STEPS / 1e6:.1f} million steps"
    console.show(terminal_table(f"simple_spread, OpenAI's convention, {steps}, training seeds: {options.seeds}", COLUMNS, rows))


if __name__ == "__main__":
    console.show_log()
    run(tyro.cli(MpeOptions))

r"""Policy gradients of several advantage estimators on the episodes of one frozen policy.

**The gradient** of agent i in an episode is (1/T) sum_t A^i_t grad log pi^i(a^i_t | o^i_t). It is taken for the weights and the
bias of the actor's last layer. There grad log pi is (onehot(a) - pi) h^T, with h the layer's input: exact, without a backward
pass. It has the same few hundred coordinates for every agent, under every sharing of parameters. It is zero in rows without
a choice.

**The true team gradient** has the same form with the discounted later rewards of all agents, sampled to the end of the
episode (lambda = 1), less a value of the state. Such a value does not change the mean, so its critic may be wrong. In
traffic the noise may be too large. A smaller lambda (`truth_lam`) replaces later rewards by fitted values: less variance,
some bias.

**Critics** are fitted to the frozen policy by the algorithms' own updates on one half of the episodes. The advantages of
the other half come from the algorithms' own `prepare`. Then the halves change places. Conditional on the critics, the
episodes of a half are independent and identically distributed, as `gradient_statistics` assumes. The measured bias includes
the error of the fitted critics.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from tsc_marl import algos
from tsc_marl.algos.ippo import Ippo
from tsc_marl.analysis import gradient_statistics
from tsc_marl.nn.agent import GroupLinear
from tsc_marl.nn.phases import PhaseNet
from tsc_marl.types import Batch, Spec

Recipe = tuple[str, dict[str, Any]]
"""An algorithm, and the settings under which its advantage is the estimator."""

RECIPES: dict[str, Recipe] = {
    gradient_statistics.TRUTH: ("mappo_sum", {"adv_norm": "none"}),
    gradient_statistics.SHARED: ("mappo", {}),
    "own": ("jointq", {"others_weight": 0.0}),
    "neighbours": ("jointq", {"advantage": "mix", "sampled_share": 1.0}),
    "one_step_team": ("jointq", {"advantage": "one_step_team"}),
    "lambda_team": ("jointq", {"advantage": "lambda_team"}),
    "critic": ("jointq", {"advantage": "mix"}),
    "jointq": ("jointq", {}),
}
"""Estimators by name.

- `truth`: sampled returns of all agents less their values.
- `shared`: GAE of the team's reward.
- `own`: GAE of the own reward.
- `neighbours`: sum of the GAE of the agent and its neighbours.
- `one_step_team`, `lambda_team`: jointq's advantages of the same names.
- `critic`: the critic's effects on the agent and its neighbours, without sampled returns.
- `jointq`: the own GAE plus the critic's effect on the neighbours.
"""
SWEEPS = 4
"""Passes over the episodes that fit the critics; each pass makes new targets."""


def measure(
    policy: Ippo, batch: Batch, settings: Mapping[str, Any], sweeps: int = SWEEPS, truth_lam: float = 1.0
) -> gradient_statistics.GradientStatistics:
    """Return bias, variance and gain of the estimators; the arguments are those of `sampled`."""
    return gradient_statistics.gradient_statistics(
        sampled(policy, batch, settings, sweeps, truth_lam), _last_layer(policy).group, policy.spec.names
    )


def sampled(
    policy: Ippo, batch: Batch, settings: Mapping[str, Any], sweeps: int = SWEEPS, truth_lam: float = 1.0
) -> dict[str, list[Float[Tensor, "B N P"]]]:
    """Return the gradients of every estimator in each half of the episodes, with critics fitted on the other half.

    Args:
        policy: the algorithm whose actor played.
        batch: an even number of episodes [T, B, ...], from their start, with exploration; at least 16.
        settings: settings of the PPO family, and of `jointq`, for all critics and advantages.
        sweeps: passes over the episodes that fit the critics.
        truth_lam: lambda of the true gradient; below 1 less variance, some bias.
    """
    halves = [batch.map(lambda x, k=k: x[:, k::2]) for k in range(2)]
    truth, how = RECIPES[gradient_statistics.TRUTH]
    recipes = RECIPES | {gradient_statistics.TRUTH: (truth, how | {"gae_lambda": truth_lam})}
    gradients: dict[str, list[Tensor]] = {name: [] for name in recipes}
    for played, fitting in (halves, halves[::-1]):
        names = {name for name, _ in recipes.values()}
        fitted = {name: fit(build(policy.spec, (name, {}), settings), fitting, sweeps) for name in names}
        score = policy_scores(policy, played)
        for name, recipe in recipes.items():
            algorithm = build(policy.spec, recipe, settings)
            algorithm.load_state_dict(fitted[recipe[0]].state_dict())
            algorithm.reset_evidence()  # it comes from episodes that the critic has learned from
            gradients[name].append(gradient(*score, algorithm.prepare(played)[0].advantage))
    return gradients


def build(spec: Spec, recipe: Recipe, settings: Mapping[str, Any]) -> Ippo:
    """Return a new algorithm, always with the same initial weights; of the settings it takes those that it has."""
    kind = algos.find(recipe[0])
    if not issubclass(kind, Ippo):
        raise TypeError(f"{recipe[0]} has no policy gradient; expected an algorithm of the PPO family")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        known = {field.name for field in dataclasses.fields(kind.Config)}
        return kind(spec, kind.Config(**{name: value for name, value in {**settings, **recipe[1]}.items() if name in known}))


def fit(algorithm: Ippo, batch: Batch, sweeps: int) -> Ippo:
    """Train an algorithm's critic alone, by its own updates, on episodes of a frozen policy."""
    starts = range(0, batch.reward.shape[1], gradient_statistics.BATCH)
    parts = [batch.map(lambda x, i=i: x[:, i : i + gradient_statistics.BATCH]) for i in starts] * sweeps
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for i, part in enumerate(parts):
            algorithm.fit_critic(part, i / len(parts))
    return algorithm


@torch.no_grad()
def policy_scores(policy: Ippo, batch: Batch) -> tuple[Float[Tensor, "T B N A"], Float[Tensor, "T B N H"]]:
    """Return onehot(a) - pi, zero in rows without a choice, and the last layer's input with a 1 for the bias.

    Where one layer scores every phase, A is 1: a one, and the sum over phases of (onehot(a) - pi) times the layer's input.
    """
    inputs: list[tuple[Tensor, ...]] = []
    hook = _last_layer(policy).register_forward_pre_hook(lambda _, args: inputs.append(args))
    policy.actor.unroll(batch.obs[:-1], None)
    hook.remove()
    probs, (last, *beside) = batch.extras["probs"], inputs[0]
    score = (one_hot(batch.action, probs.shape[-1]) - probs) * batch.has_choice.unsqueeze(-1)
    last = torch.cat([last, *(mean.expand_as(last) for mean in beside), torch.ones_like(last[..., :1])], -1)
    if isinstance(policy.actor, PhaseNet):
        return torch.ones_like(score[..., :1]), torch.einsum("tbna,tbnah->tbnh", score, last)
    return score, last


def _last_layer(policy: Ippo) -> GroupLinear:
    return policy.actor.phase_head if isinstance(policy.actor, PhaseNet) else policy.actor.head


def gradient(
    score: Float[Tensor, "T B N A"], inputs: Float[Tensor, "T B N H"], advantage: Float[Tensor, "T B N"]
) -> Float[Tensor, "B N P"]:
    """Return each episode's and agent's gradient of the last layer."""
    weighted = score * advantage.unsqueeze(-1) / len(score)
    return torch.einsum("tbna,tbnh->bnah", weighted, inputs).flatten(2).double()

r"""The policy gradients of several advantage estimators on the episodes of one frozen policy, played on any environment.

**The gradient** of agent i in an episode is (1/T) sum_t A^i_t grad log pi^i(a^i_t | o^i_t) with respect to the weights and the
bias of the actor's last layer: (onehot(a) - pi) h^T, with h what that layer is fed. It is exact, needs no backward pass, has the
same few hundred coordinates for every agent and under every sharing of parameters, and is zero where there was no choice.

**The true team gradient** has the same form with the discounted later rewards of all agents, sampled to the end of the
episode (lambda = 1), less a value of the state. Any such value leaves its mean alone, so its critic may be wrong. In traffic
it may drown in noise: a smaller lambda (`truth_lam`) takes what comes later from the fitted values, surer and no longer exact.

**Critics** are fitted to the frozen policy by the algorithms' own updates on one half of the episodes, and the advantages of
the other half come from the algorithms' own `prepare`; then the halves change places. Given the critics, the episodes of a
half are independent and alike, as `gradients` needs them. What bias is found is that of critics fitted on so many episodes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from tsc_marl import algos
from tsc_marl.algos.ippo import Ippo
from tsc_marl.algos.jointq import Jointq
from tsc_marl.analysis import gradient_statistics
from tsc_marl.types import Batch, Spec

Recipe = tuple[str, dict[str, Any]]
"""An algorithm, and the settings under which its advantage is the estimator."""

RECIPES: dict[str, Recipe] = {
    gradient_statistics.TRUTH: ("jointq", {"advantage": "mix", "sampled_share": 1.0, "credit_scope": "all", "adv_norm": "none"}),
    gradient_statistics.SHARED: ("mappo", {}),
    "own": ("jointq", {"others_weight": 0.0}),
    "neighbours": ("jointq", {"advantage": "mix", "sampled_share": 1.0}),
    "one_step_team": ("jointq", {"advantage": "one_step_team"}),
    "lambda_team": ("jointq", {"advantage": "lambda_team"}),
    "critic": ("jointq", {"advantage": "mix"}),
    "jointq": ("jointq", {}),
}
"""All agents' sampled returns less their values; the team's GAE; the own GAE; its sum over oneself and the neighbours; the
first text's advantage, one step and lambda; the critic's effects on oneself and the neighbours, without samples; the own GAE
and the critic's effect on the neighbours."""
SWEEPS = 4
"""Passes over the episodes that critics are fitted on, with new targets in each."""


def measure(
    policy: Ippo, batch: Batch, settings: Mapping[str, Any], sweeps: int = SWEEPS, truth_lam: float = 1.0
) -> gradient_statistics.GradientStatistics:
    """Return how good the estimators are; the arguments are those of `sampled`."""
    return gradient_statistics.gradient_statistics(
        sampled(policy, batch, settings, sweeps, truth_lam), policy.actor.head.group, policy.spec.names
    )


def sampled(
    policy: Ippo, batch: Batch, settings: Mapping[str, Any], sweeps: int = SWEEPS, truth_lam: float = 1.0
) -> dict[str, list[Float[Tensor, "B N P"]]]:
    """Return every estimator's gradients in each half of the episodes, with critics that were fitted on the other half.

    Args:
        policy: the algorithm whose actor played.
        batch: an even number of episodes [T, B, ...], each from its start and with exploration; the more the surer, 16 at least.
        settings: of the PPO family, for all critics and advantages.
        sweeps: passes over the episodes that critics are fitted on.
        truth_lam: lambda of the true gradient; below 1 it is surer, but leans on the fitted values.
    """
    halves = [batch.map(lambda x, k=k: x[:, k::2]) for k in range(2)]
    truth, how = RECIPES[gradient_statistics.TRUTH]
    recipes = RECIPES | {gradient_statistics.TRUTH: (truth, how | {"gae_lambda": truth_lam})}
    found: dict[str, list[Tensor]] = {name: [] for name in recipes}
    for played, seen in (halves, halves[::-1]):
        fitted = {name: fit(build(policy.spec, (name, {}), settings), seen, sweeps) for name in ("mappo", "jointq")}
        score = policy_scores(policy, played)
        for name, recipe in recipes.items():
            algorithm = build(policy.spec, recipe, settings)
            algorithm.load_state_dict(fitted[recipe[0]].state_dict())
            if isinstance(algorithm, Jointq):
                algorithm.evidence.zero_()  # it comes from the episodes that the critic saw many times
            found[name].append(gradient(*score, algorithm.prepare(played)[0]["advantage"]))
    return found


def build(spec: Spec, recipe: Recipe, settings: Mapping[str, Any]) -> Ippo:
    """Return a new algorithm, always with the same first weights."""
    kind = algos.find(recipe[0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(spec, kind.Config(**{**settings, **recipe[1]}))  # pyright: ignore[reportReturnType]


def fit(algorithm: Ippo, batch: Batch, sweeps: int) -> Ippo:
    """Train an algorithm's critic, and nothing else, by its own updates on episodes of a policy that does not move."""
    algorithm.step = algorithm.step_critic
    starts = range(0, batch.reward.shape[1], gradient_statistics.BATCH)
    parts = [batch.map(lambda x, i=i: x[:, i : i + gradient_statistics.BATCH]) for i in starts] * sweeps
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for i, part in enumerate(parts):
            algorithm.update(part, i / len(parts))
    return algorithm


@torch.no_grad()
def policy_scores(policy: Ippo, batch: Batch) -> tuple[Float[Tensor, "T B N A"], Float[Tensor, "T B N H"]]:
    """Return onehot(a) - pi, zero where there was no choice, and what the last layer is fed, with a 1 for its bias."""
    fed: list[Tensor] = []
    hook = policy.actor.head.register_forward_pre_hook(lambda _, given: fed.append(given[0]))
    policy.actor.unroll(batch.obs[:-1], None)
    hook.remove()
    choice = batch.avail[:-1].sum(-1, keepdim=True) > 1
    probs = batch.extras["probs"]
    return (one_hot(batch.action, probs.shape[-1]) - probs) * choice, torch.cat([fed[0], torch.ones_like(fed[0][..., :1])], -1)


def gradient(
    score: Float[Tensor, "T B N A"], fed: Float[Tensor, "T B N H"], advantage: Float[Tensor, "T B N"]
) -> Float[Tensor, "B N P"]:
    """Return each episode's and agent's gradient of the last layer."""
    weighted = score * advantage.unsqueeze(-1) / len(score)
    return torch.einsum("tbna,tbnh->bnah", weighted, fed).flatten(2).double()

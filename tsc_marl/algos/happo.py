"""HAPPO (Kuba et al. 2022, arXiv 2109.11251): agents improve one after the other, given the new policies of those before.

Agents learn in a random order i_1 .. i_N. Agent i_m descends L = -F min(rho A, clip(rho) A) - beta H alone; the advantage A is
the same for all. Then F <- F pi^{i_m}_new / pi^{i_m}_old over the whole batch. F = 1 for the first agent. The critic learns as in
MAPPO.
"""

from dataclasses import dataclass, replace
from typing import TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import Minibatch, PpoConfig
from tsc_marl.algos.mappo import Mappo
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, nets, phases
from tsc_marl.nn.adam import Adam
from tsc_marl.types import Spec

HappoSettings = TypeVar("HappoSettings", bound="HappoConfig")


@dataclass(frozen=True)
class HappoConfig(PpoConfig):
    """Settings of HAPPO."""

    sharing: agent.Sharing = "none"
    """Must be `none`: with shared parameters one agent's step would move the others' policies, and F would be wrong."""

    def __post_init__(self) -> None:
        """Refuse shared parameters."""
        super().__post_init__()
        if self.sharing != "none":
            raise UserError(
                f"algo.sharing must be none, since a step of one agent must leave the others' policies alone; got {self.sharing}"
            )


class Happo(Mappo[HappoSettings]):
    """Sequential PPO. Each agent learns in a small network of its own; `actor` holds copies of all, stacked, for acting."""

    learns_together = False
    Config = HappoConfig

    def __init__(self, spec: Spec, config: HappoSettings) -> None:
        super().__init__(spec, config)
        self.actor.requires_grad_(False)
        options = (config.hidden, config.sharing, 0.01, 0, 1, config.recurrent)
        self.learners = nn.ModuleList([nets.agent_net(spec.of_agent(i), *options) for i in range(spec.n_agents)])
        for i in range(spec.n_agents):
            self._publish(i)
        self.actor_optimiser = Adam(self.learners.parameters(), lr=config.lr, eps=1e-5)

    def fit(self, rows: Minibatch) -> list[dict[str, float]]:
        """Improve the agents in a random order, then the critic."""
        factor = torch.ones_like(rows.advantage[..., :1])
        logged = []
        for i in torch.randperm(self.spec.n_agents).tolist():
            own = rows.of_agent(i).with_extras(factor=factor)
            logged += self.step_agent(i, own)
            with torch.no_grad():
                change = ops.gather_actions(self.agent_log_policy(i, own), own.action) - own.logp
            factor = factor * change.exp()
            self._publish(i)
        metrics = {"factor/min": float(factor.min()), "factor/max": float(factor.max())}
        metrics["factor/effective_share"] = float(factor.mean() ** 2 / (factor**2).mean())
        for some in self.minibatches(rows):
            logged.append(self.step_critic(some))
        return [metrics, *logged]

    def agent_log_policy(self, i: int, rows: Minibatch) -> Float[Tensor, "L M 1 A"]:
        """Return agent i's log-probabilities of all actions along its rows."""
        memory = rows.extras["hidden"][0] if self.config.recurrent else None
        learner = cast(agent.AgentNet | phases.PhaseNet, self.learners[i])
        return ops.log_policy(learner.unroll(rows.obs, memory)[0], rows.avail)

    def step_agent(self, i: int, rows: Minibatch) -> list[dict[str, float]]:
        """Take PPO's steps on agent i alone; the factor weighs its rows."""
        logged = []
        for some in self.minibatches(rows):
            weighted = replace(some, advantage=some.extras["factor"] * some.advantage)
            logged.append(self.step_policy(self.agent_log_policy(i, weighted), weighted, self.learners[i]))
        return logged

    @torch.no_grad()
    def _publish(self, i: int) -> None:
        """Copy agent i's network into the stack that acts."""
        for stacked, own in zip(self.actor.parameters(), self.learners[i].parameters(), strict=True):
            stacked[i] = own[0]

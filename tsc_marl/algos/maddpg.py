"""MADDPG (Lowe et al. 2017, arXiv 1706.02275) with discrete actions by the straight-through Gumbel-softmax (arXiv 1611.01144).

The target of critic i is y^i = r^i + gamma (1 - terminated) Qbar^i(x', a'^1 .. a'^N), with a'^j drawn from the target actor
of j. The actor of i ascends Q^i(x, a^-i, a~^i). The paper has two options. `infer` replaces the other agents' target actors in
y^i by agent i's models of them (section 4.2). `ensemble` gives each agent K sub-policies, one for each episode (section 4.3).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tsc_marl import ops
from tsc_marl.algos.base import OffPolicyConfig
from tsc_marl.bounds import Count, MaybeCount, MaybePositiveShare, NonNegative, Positive, Share, Widths
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, critics, nets
from tsc_marl.nn.adam import Adam
from tsc_marl.nn.normalisation import ValueNorm
from tsc_marl.nn.sharing import polyak_update, target_copy
from tsc_marl.types import Algorithm, Batch, Spec

TARGETS = ("polyak", "target_update_interval", "target_update_interval_episodes")
"""Settings that move the targets: exactly one of them is not None."""


@dataclass(frozen=True)
class MaddpgConfig(OffPolicyConfig):
    """Settings of MADDPG."""

    lr: Positive = 1e-3
    """Learning rate of critics, actors and inferred policies (Adam)."""
    gamma: Share = 0.98
    """Discount per decision."""
    max_grad_norm: Positive = 10.0
    """Largest norm of a gradient step, actors and critics each."""
    hidden: Widths = (64, 64)
    """Widths of the actors' hidden layers."""
    critic_hidden: Widths = (64, 64)
    """Widths of the critics' hidden layers."""
    sharing: agent.Sharing = "full"
    """Which agents share parameters: `full` (with a one-hot id), `full_no_id`, `none`, `seps` (learned clusters)."""
    critic_input: Literal["state", "obs"] = "state"
    """Input x of the critics beside the actions: the state, or all observations."""
    reward: Literal["own", "team"] = "own"
    """Reward of each agent's critic: its own reward, or the sum of all."""
    temperature: tuple[Positive, Positive] = (1.0, 1.0)
    """Temperature of the Gumbel-softmax gradient at the start and the end of training (linear). Actions do not depend on it."""
    logit_penalty: NonNegative = 1e-3
    """Weight of the mean squared logit of the legal actions in the actors' loss."""
    others: Literal["replay", "current"] = "replay"
    """The other agents' actions in an actor's loss: actions of the replay, or new draws from their actors."""
    target_action: Literal["sample", "argmax"] = "sample"
    """The next actions in the critics' targets: draws from the target actors, or their most likely actions."""
    polyak: MaybePositiveShare = 0.01
    """Share by which the targets move at each update."""
    target_update_interval: MaybeCount = None
    """Updates between two copies to the targets; needs `polyak None`."""
    target_update_interval_episodes: MaybeCount = None
    """Episodes between two copies to the targets; needs `polyak None`."""
    value_norm_decay: Share = 0.999
    """Share of the target normaliser's moments kept at each update."""
    infer: Literal["none", "neighbours", "all"] = "none"
    """Agents whose policies each agent infers for its target: one gradient step on the latest episodes before each update."""
    infer_entropy: NonNegative = 1e-3
    """Weight of the entropy bonus of inferred policies."""
    ensemble: Count = 1
    """Sub-policies K of each agent."""

    def __post_init__(self) -> None:
        """Refuse several ways to move the targets, and none."""
        super().__post_init__()
        chosen = [name for name in TARGETS if getattr(self, name) is not None]
        if len(chosen) != 1:
            values = " and ".join(f"algo.{name} {getattr(self, name)}" for name in chosen or TARGETS)
            raise UserError(f"the targets move in exactly one way; got {values}, set all but one to None")
        if self.infer == "none" and self.infer_entropy != MaddpgConfig.infer_entropy:
            raise UserError(f"algo.infer_entropy {self.infer_entropy} has no effect with algo.infer none; set algo.infer to all")


class Maddpg(Algorithm[MaddpgConfig]):
    """An actor on its own observation and a critic of all actions for every agent."""

    Config = MaddpgConfig
    epsilon: Tensor
    updates_done: Tensor
    episodes_seen: Tensor

    def __init__(self, spec: Spec, config: MaddpgConfig) -> None:
        super().__init__(spec, config)
        n, f, a = spec.n_agents, spec.obs_dim, spec.n_actions
        size_x = spec.state_dim if config.critic_input == "state" else n * f
        self.actor = agent.Ensemble(config.ensemble, lambda: nets.agent_net(spec, config.hidden, config.sharing, 0.01, 0, 1))
        self.critic = critics.ActionCritic(n, f, a, size_x, config.critic_hidden, config.sharing)
        self.actor_optimiser = Adam(self.actor.parameters(), lr=config.lr, eps=1e-5)
        self.critic_optimiser = Adam(self.critic.parameters(), lr=config.lr, eps=1e-5)
        self.target_actor, self.target_critic = target_copy(self.actor), target_copy(self.critic)
        peers = spec.neighbours if config.infer == "neighbours" else [[j for j in range(n) if j != i] for i in range(n)]
        self.peers: agent.PolicyInferenceNet | None = None
        if config.infer != "none" and any(peers):
            self.peers = agent.PolicyInferenceNet(peers, f, config.hidden, a)
            self.target_peers = target_copy(self.peers)
            self.peers_optimiser = Adam(self.peers.parameters(), lr=config.lr, eps=1e-5)
        # One scale for all would let the critic with the largest returns dominate.
        self.returns = ValueNorm(config.value_norm_decay, n)
        self.latest: Batch | None = None
        self.register_buffer("epsilon", torch.tensor(config.epsilon_start))
        for name in ("updates_done", "episodes_seen"):
            self.register_buffer(name, torch.zeros((), dtype=torch.long))

    def act(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], carry: Any, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor], Any]:
        """Draw from this episode's sub-policy, or with probability epsilon any legal action; greedily, the mode of their mean."""
        if generator is None:
            logits = self.actor(obs)
            probs = ops.log_policy(logits, avail.unsqueeze(-3).expand_as(logits)).exp()
            return probs.mean(-3).argmax(-1), {}, carry
        if carry is None and self.config.ensemble > 1:
            carry = torch.randint(self.config.ensemble, obs.shape[:-1], generator=generator)
        k = torch.zeros(obs.shape[:-1], dtype=torch.long) if carry is None else carry
        action = ops.gumbel_softmax(self.actor(obs, k), avail, 1.0, generator).argmax(-1)
        return ops.epsilon_greedy(action, avail, self.epsilon, generator), {"sub_policy": k}, carry

    def policy_state(self) -> dict[str, Tensor]:
        """Return the actors' weights and epsilon."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("actor.") or name == "epsilon"}

    def on_new_episodes(self, batch: Batch, progress: float) -> dict[str, float]:
        """Lower epsilon, keep the new episodes for inference, and count them for targets that are copied by episodes."""
        self.epsilon.fill_(self.config.epsilon(progress))
        self.latest = batch
        every, before = self.config.target_update_interval_episodes, int(self.episodes_seen)
        self.episodes_seen += batch.terminated.shape[1]
        if every is not None and int(self.episodes_seen) // every > before // every:
            self._move_targets(1.0)
        return {"policy/epsilon": float(self.epsilon)}

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take a step with inferred policies, critics and actors, in this order, and move the targets."""
        config, (start, end) = self.config, self.config.temperature
        metrics = self._infer(self.peers, self.latest) if self.peers is not None and self.latest is not None else {}
        x = batch.state if config.critic_input == "state" else batch.obs.flatten(-2)
        joint = one_hot(batch.action, self.spec.n_actions).float()
        metrics |= self._improve_critic(batch, x, joint)
        metrics |= self._improve_actor(batch, x, joint, start + (end - start) * progress)
        self.updates_done += 1
        if config.polyak is not None:
            self._move_targets(config.polyak)
        elif config.target_update_interval is not None and int(self.updates_done) % config.target_update_interval == 0:
            self._move_targets(1.0)
        return metrics

    @torch.no_grad()
    def target(self, batch: Batch, x: Float[Tensor, "T_1 B X"]) -> Float[Tensor, "T B N"]:
        """Return y^i in the reward's unit; the next actions come from the same sub-policy."""
        obs, avail = batch.obs[1:], batch.avail[1:]
        logits = self.target_actor(obs, batch.extras["sub_policy"])
        if self.config.target_action == "sample":
            joint = ops.gumbel_softmax(logits, avail, 1.0, None)
        else:
            joint = one_hot(ops.log_policy(logits, avail).argmax(-1), self.spec.n_actions).float()
        views = ops.action_views(joint)
        if self.peers is not None:
            views, (i, j) = views.clone(), (self.peers.watcher, self.peers.watched)
            views[..., i, j, :] = ops.log_policy(self.target_peers(obs), avail[..., j, :]).exp()
        later = self.returns.restore(self.target_critic(obs, x[1:], views))
        team = self.config.reward == "team"
        reward = batch.team_reward.expand_as(batch.reward) if team else batch.reward
        return reward + self.config.gamma * (~batch.terminated).float().unsqueeze(-1) * later

    def _improve_critic(self, batch: Batch, x: Tensor, joint: Tensor) -> dict[str, float]:
        target = self.target(batch, x)
        self.returns.update(target)
        normalised = self.returns.normalise(target)
        predicted = self.critic(batch.obs[:-1], x[:-1], ops.action_views(joint))
        loss = ((predicted - normalised) ** 2).mean()
        norm = self._descend(loss, self.critic, self.critic_optimiser)
        explained = ops.explained_variance(predicted.detach(), normalised)
        metrics = {"value/mean": float(target.mean()), "value/explained_variance": explained}
        return metrics | {"loss/critic": loss.item(), "grad_norm/critic": norm}

    def actor_loss(
        self, batch: Batch, x: Tensor, joint: Float[Tensor, "T B N A"], temperature: float
    ) -> tuple[Tensor, Float[Tensor, "T B N A"], Float[Tensor, "T B N"]]:
        """Return the loss, the logits and each row's weight: sub-policies learn from their own rows, weighted 1/K."""
        obs, avail, k = batch.obs[:-1], batch.avail[:-1], batch.extras["sub_policy"]
        weight = ops.sub_policy_weights(batch.has_choice, k, self.config.ensemble)
        logits = self.actor(obs, k)
        own = ops.gumbel_softmax(logits, avail, temperature, None)
        values = self.critic(obs, x[:-1], ops.action_views(own.detach() if self.config.others == "current" else joint, own))
        penalty = (logits**2 * avail).sum(-1) / avail.sum(-1)
        loss = (weight * (self.config.logit_penalty * penalty - values)).sum() / self.spec.n_agents
        return loss, logits, weight

    def _improve_actor(self, batch: Batch, x: Tensor, joint: Tensor, temperature: float) -> dict[str, float]:
        loss, logits, weight = self.actor_loss(batch, x, joint, temperature)
        norm = self._descend(loss, self.actor, self.actor_optimiser)
        entropy = (weight * ops.entropy(ops.log_policy(logits.detach(), batch.avail[:-1]))).sum((0, 1))
        metrics = {"loss/policy": loss.item(), "policy/entropy": float(entropy.mean()), "policy/temperature": temperature}
        return metrics | self.spec.per_agent({"entropy": entropy}) | {"grad_norm/actor": norm}

    def _infer(self, peers: agent.PolicyInferenceNet, latest: Batch) -> dict[str, float]:
        """Fit mu^_i^j to what j did in rows of the latest episodes: L = -E[log mu^(a_j | o_j) + lambda H(mu^)]."""
        steps, episodes = latest.terminated.shape
        rows = torch.randint(steps * episodes, (self.config.batch_size * self.config.sequence_length,))
        data = {"obs": latest.obs[:-1], "avail": latest.avail[:-1], "action": latest.action, "k": latest.extras["sub_policy"]}
        data = {name: value.flatten(0, 1)[rows] for name, value in data.items()}
        watched = peers.watched
        avail, action = data["avail"][:, watched], data["action"][:, watched]
        active = (avail.sum(-1) > 1).float()
        logp = ops.log_policy(peers(data["obs"]), avail)
        entropy = ops.masked_mean(ops.entropy(logp), active)
        loss = -ops.masked_mean(ops.gather_actions(logp, action), active) - self.config.infer_entropy * entropy
        self._descend(loss, peers, self.peers_optimiser)
        with torch.no_grad():
            true = ops.log_policy(self.actor(data["obs"], data["k"]), data["avail"])[:, watched]
            divergence = ops.masked_mean(ops.kl(true, logp), active)
        return {
            "loss/infer": loss.item(),
            "infer/kl": float(divergence),
            "infer/entropy": entropy.item(),
        }

    def _move_targets(self, share: float) -> None:
        polyak_update(self.target_actor, self.actor, share)
        polyak_update(self.target_critic, self.critic, share)
        if self.peers is not None:
            polyak_update(self.target_peers, self.peers, share)

    def _descend(self, loss: Tensor, module: nn.Module, optimiser: torch.optim.Optimizer) -> float:
        """Take a gradient step with one module alone."""
        optimiser.zero_grad()
        parameters = list(module.parameters())
        loss.backward(inputs=parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        optimiser.step()
        return float(norm)

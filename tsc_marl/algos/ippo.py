"""IPPO (de Witt et al. 2020, arXiv 2011.09533): each agent learns from its own reward R^i with a local value V(o^i).

With the tricks of arXiv 2103.01955: value normalisation, clipped Huber value loss, advantage normalisation over the
rows with a choice, orthogonal initialisation, gradient clipping. The other on-policy methods override its parts.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import PpoConfig
from tsc_marl.nn import agent
from tsc_marl.types import Algorithm, Batch, Spec, mean_metrics

Rows = dict[str, Tensor]
"""Tensors [L, M, ...] of M cuts of L decisions each (L = 1 without memory); in `prepare` whole episodes [T, B, ...]."""


class Ippo(Algorithm):
    """Independent PPO."""

    Config = PpoConfig

    def __init__(self, spec: Spec, config: PpoConfig) -> None:
        super().__init__(spec, config)
        self.config: PpoConfig = config
        self.actor = self.build_actor()
        self.critic = self.build_critic()
        self.returns = agent.ValueNorm(config.value_norm_decay)
        self.actor_optimiser = torch.optim.Adam(self.actor.parameters(), lr=config.lr, eps=1e-5)
        self.critic_optimiser = torch.optim.Adam(self.critic.parameters(), lr=config.lr, eps=1e-5)

    def build_actor(self) -> agent.AgentNet:
        """Return the policy's network; called once, at construction, before `build_critic`."""
        spec, config = self.spec, self.config
        sizes = (spec.n_agents, spec.obs_dim, config.hidden, spec.n_actions)
        return agent.AgentNet(*sizes, config.sharing, 0.01, config.recurrent)

    def build_critic(self) -> nn.Module:
        """Return the critic; called once, at construction."""
        spec, config = self.spec, self.config
        return agent.AgentNet(spec.n_agents, spec.obs_dim, config.critic_hidden, 1, config.sharing, 1.0)

    def normalised_values(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M K"]:
        """Return the critic's values in normalised units: one per agent (K = N), or one for all (K = 1)."""
        return self.critic(obs).squeeze(-1)

    def value_head(self) -> agent.GroupLinear:
        """Return the critic's layer whose first output is the value."""
        return self.critic.get_submodule("head")  # pyright: ignore[reportReturnType]

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B K"]:
        """Return the rewards that the values predict."""
        return batch.reward

    def act(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], carry: Any, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor], Any]:
        """Sample from the policy, or take its mode when `generator` is None."""
        logits, after = self.actor.unroll(obs.unsqueeze(0), carry)
        logp = self.policy_log_probs(logits[0], avail)
        if generator is None:
            return logp.argmax(-1), {}, after
        probs = logp.exp()
        action = ops.sample(probs, generator)
        extras = {"logp": ops.gather_actions(logp, action), "probs": probs}
        if after is not None:
            extras["hidden"] = torch.zeros_like(after) if carry is None else carry
        return action, extras, after

    def policy_log_probs(self, logits: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"]) -> Float[Tensor, "*M A"]:
        """Return the log-probabilities of the policy that acts, and that learns."""
        return ops.log_policy(logits, avail)

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy and the critic's values."""
        probs = self.policy_log_probs(self.actor.unroll(obs.unsqueeze(0), carry)[0][0], avail).exp()
        return {"probs": probs, "value": self.returns.restore(self.normalised_values(obs, state))}

    def policy_state(self) -> dict[str, Tensor]:
        """Return the actor's weights."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("actor.")}

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Make targets with the networks as they were, then take `epochs` x `minibatches` steps on actor and critic."""
        for optimiser in (self.actor_optimiser, self.critic_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = self.config.lr * (1 - (1 - self.config.lr_final_fraction) * progress)
        rows, metrics = self.prepare(batch)
        length = ops.chunk_length(len(batch.action), self.config.bptt_length) if self.config.recurrent else 1
        rows = {name: ops.chunks(value, length) for name, value in rows.items()}
        return metrics | mean_metrics(self.fit(rows)) | self.agent_metrics(rows)

    @torch.no_grad()
    def agent_metrics(self, rows: Rows) -> dict[str, float]:
        """Return what each agent did, and was told, in its rows with a choice.

        `entropy` of its old policy, `kl` of the new from the old, `laziness` 1 - E|A^i| / max_k E|A^k| with the advantages
        before they are normalised (a lazy agent hardly moves either), `forced` the share of rows without a choice.
        """
        active, old = rows["active"], rows["probs"].clamp(min=1e-12).log()
        size = ops.agent_mean(rows["raw"].abs(), active)
        return self.spec.per_agent({
            "entropy": ops.agent_mean(ops.entropy(old), active), "kl": ops.agent_mean(ops.kl(self.log_policy(rows), old), active),
            "laziness": 1 - size / size.max().clamp(min=1e-8), "forced": 1 - active.mean((0, 1)),
        })  # fmt: skip

    def fit(self, rows: Rows) -> list[dict[str, float]]:
        """Take all gradient steps on rows cut to [L, M, ...]; return the metrics of each."""
        return [self.step(some) for some in self.minibatches(rows)]

    def minibatches(self, rows: Rows) -> Iterator[Rows]:
        """Cut the rows into random parts, anew in each epoch."""
        for _ in range(self.config.epochs):
            for chosen in torch.randperm(rows["action"].shape[1]).chunk(self.config.num_minibatches):
                yield {name: value[:, chosen] for name, value in rows.items()}

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Rows, dict[str, float]]:
        """Return the tensors [T, B, ...] that the losses need, and metrics."""
        config = self.config
        value = self.returns.restore(self.normalised_values(batch.obs, batch.state))
        reward = self.critic_reward(batch)
        estimate = self.return_residual(batch, reward, value)
        target = estimate + value[:-1]
        metrics = {"value/explained_variance": ops.explained_variance(value[:-1], target), "value/mean": float(target.mean())}
        if config.popart:
            self.returns.update_preserving(target, self.value_head())
        else:
            self.returns.update(target)
        active = batch.avail[:-1].sum(-1) > 1
        rows = {
            "obs": batch.obs[:-1], "avail": batch.avail[:-1], "state": batch.state[:-1], "action": batch.action,
            "logp": batch.extras["logp"], "probs": batch.extras["probs"], "active": active.float(),
            "value": self.returns.normalise(value[:-1]), "target": self.returns.normalise(target),
        }  # fmt: skip
        if self.config.recurrent:
            rows["hidden"] = batch.extras["hidden"]
        return self.normalise_advantages(self.advantage(batch, value, estimate, rows, metrics), rows), metrics

    def normalise_advantages(self, advantage: Float[Tensor, "L M N"], rows: Rows) -> Rows:
        """Add the advantage to the rows as it is, `raw`, and as the policy is to learn from it."""
        norm, active = self.config.adv_norm, rows["active"].bool()
        usable = advantage if norm == "none" else ops.normalise_advantage(advantage, active, norm == "agent")
        return rows | {"raw": advantage, "advantage": usable}

    def return_residual(
        self, batch: Batch, reward: Float[Tensor, "T B K"], value: Float[Tensor, "T_1 B K"]
    ) -> Float[Tensor, "T B K"]:
        """Return how much more than predicted each stream's return was, raw."""
        return ops.gae(reward, value, batch.terminated, batch.truncated, self.config.gamma, self.config.gae_lambda)

    def advantage(
        self,
        batch: Batch,
        value: Float[Tensor, "T_1 B K"],
        estimate: Float[Tensor, "T B K"],
        rows: Rows,
        metrics: dict[str, float],
    ) -> Float[Tensor, "T B N"]:
        """Return each agent's advantage, raw; may add to the rows and the metrics."""
        return estimate.expand_as(batch.reward)

    def critic_loss(self, rows: Rows) -> Tensor:
        """Return the critic's loss on some rows."""
        guess = self.normalised_values(rows["obs"], rows["state"])
        return ops.clipped_value_loss(guess, rows["value"], rows["target"], self.config.clip_coef)

    def log_policy(self, rows: Rows) -> Float[Tensor, "L M N A"]:
        """Return the log-probabilities of all actions along the rows, from the memory that they started with."""
        memory = rows["hidden"][0] if self.config.recurrent else None
        return self.policy_log_probs(self.actor.unroll(rows["obs"], memory)[0], rows["avail"])

    def step(self, rows: Rows) -> dict[str, float]:
        """Take one gradient step on the critic and one on the actor; return their metrics."""
        return self.step_critic(rows) | self.step_policy(self.log_policy(rows), rows, self.actor)

    def step_critic(self, rows: Rows) -> dict[str, float]:
        """Take one gradient step on the critic; return its metrics."""
        loss = self.critic_loss(rows)
        return {"loss/critic": loss.item(), "grad_norm/critic": self._descend(loss, self.critic, self.critic_optimiser)}

    def step_policy(self, logp: Float[Tensor, "L M N A"], rows: Rows, actor: nn.Module) -> dict[str, float]:
        """Take one gradient step on the actor that gave the log-probabilities; return its metrics."""
        loss, metrics = self.actor_loss(logp, rows)
        return metrics | {"grad_norm/actor": self._descend(loss, actor, self.actor_optimiser)}

    def policy_loss(self, logp: Float[Tensor, "L M N"], rows: Rows) -> Tensor:
        """Return the loss of the taken actions' log-probabilities."""
        return ops.ppo_loss((logp - rows["logp"]).exp(), rows["advantage"], rows["active"], self.config.clip_coef)

    def actor_loss(self, logp: Float[Tensor, "L M N A"], rows: Rows) -> tuple[Tensor, dict[str, float]]:
        """Return the policy's loss less the entropy bonus, and metrics."""
        active, taken = rows["active"], ops.gather_actions(logp, rows["action"])
        entropy = ops.masked_mean(ops.entropy(logp), active)
        loss = self.policy_loss(taken, rows)
        change = (taken - rows["logp"]).detach()
        ratio = change.exp()
        clipped = ((ratio - 1).abs() > self.config.clip_coef).float()
        metrics = {
            "loss/policy": loss.item(),
            "policy/entropy": entropy.item(),
            "policy/kl": ops.masked_mean(ratio - 1 - change, active).item(),
            "policy/clipped": ops.masked_mean(clipped, active).item(),
        }
        return loss - self.config.entropy_coef * entropy, metrics

    def _descend(self, loss: Tensor, module: nn.Module, optimiser: torch.optim.Optimizer) -> float:
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), self.config.max_grad_norm)
        optimiser.step()
        return float(norm)

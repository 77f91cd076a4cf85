"""Targets and losses: pure functions of tensors. Axes as in `types`."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

ILLEGAL = -1e9


def gae(
    reward: Float[Tensor, "T B K"],
    value: Float[Tensor, "T_1 B K"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    gamma: float,
    lam: float,
) -> Float[Tensor, "T B K"]:
    """Generalised advantage estimate (Schulman et al. 2016, arXiv 1506.02438).

    delta_t = r_t + gamma (1 - terminated_t) V_{t+1} - V_t;  A_t = delta_t + gamma lam (1 - done_t) A_{t+1}.
    A truncation stops the recursion but keeps the bootstrap. `value[t + 1]` must be the value of what followed step t.
    """
    follows = (~terminated).to(reward.dtype).unsqueeze(-1)
    goes_on = (~(terminated | truncated)).to(reward.dtype).unsqueeze(-1)
    delta = reward + gamma * follows * value[1:] - value[:-1]
    advantage = torch.zeros_like(delta)
    carry = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        carry = delta[t] + gamma * lam * goes_on[t] * carry
        advantage[t] = carry
    return advantage


def nstep_return(
    reward: Float[Tensor, "T B K"],
    value: Float[Tensor, "T_1 B K"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    gamma: float,
    n: int,
) -> Float[Tensor, "T B K"]:
    """G^(n)_t = r_t + gamma (1 - terminated_t) G^(n-1)_{t+1} with G^(0) = V; where the batch or an episode is cut, V for G."""
    follows = (~terminated).to(reward.dtype).unsqueeze(-1)
    cut = truncated.unsqueeze(-1)
    later = value[1:]
    target = reward + gamma * follows * later
    for _ in range(n - 1):
        later = torch.where(cut, value[1:], torch.cat([target[1:], value[-1:]]))
        target = reward + gamma * follows * later
    return target


def td_lambda(
    reward: Float[Tensor, "T B K"],
    value: Float[Tensor, "T_1 B K"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    gamma: float,
    lam: float,
) -> Float[Tensor, "T B K"]:
    """TD(lambda) targets y_t = r_t + gamma (1 - terminated_t) [(1 - lam) Q_{t+1} + lam y_{t+1}], with Q for y after a cut."""
    return gae(reward, value, terminated, truncated, gamma, lam) + value[:-1]


def one_step_target(
    reward: Float[Tensor, "T B K"],
    value: Float[Tensor, "T_1 B K"],
    returns: Float[Tensor, "T B K"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    gamma: float,
) -> Float[Tensor, "T B K"]:
    """Target of an action value: y_t = r_t + gamma (1 - terminated_t) G_{t+1}, with V_{t+1} for G where a cut follows."""
    follows = (~terminated).to(reward.dtype).unsqueeze(-1)
    later = torch.cat([returns[1:], value[-1:]])
    later = torch.where(truncated.unsqueeze(-1), value[1:], later)
    return reward + gamma * follows * later


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Float[Tensor, "P"], steps: int) -> Float[Tensor, "P"]:
    """Return the solution x of M x = b for a positive definite M; `product` returns M v."""
    x, residual = torch.zeros_like(b), b.clone()
    direction, size = b.clone(), b @ b
    for _ in range(steps):
        if size < 1e-10:
            break
        image = product(direction)
        alpha = size / (direction @ image)
        x, residual = x + alpha * direction, residual - alpha * image
        direction, size = residual + (residual @ residual / size) * direction, residual @ residual
    return x


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of x over the rows where mask is 1; 0 when there are none."""
    return (x * mask).sum() / mask.sum().clamp(min=1)


def agent_mean(x: Float[Tensor, "*M N"], active: Float[Tensor, "*M N"]) -> Float[Tensor, "N"]:
    """Mean of each agent's x over its rows where `active` is 1; 0 when there are none."""
    return (x * active).flatten(0, -2).sum(0) / active.flatten(0, -2).sum(0).clamp(min=1)


def normalise_advantage(
    advantage: Float[Tensor, "T B N"], active: Bool[Tensor, "T B N"], per_agent: bool
) -> Float[Tensor, "T B N"]:
    """Scale to mean 0 and deviation 1 over the rows with a choice, over all agents or each agent alone.

    The deviation of an agent is at least a tenth of the median one: else the noise of an agent without influence would be
    scaled up.
    """
    axes = (0, 1) if per_agent else (0, 1, 2)
    weight = active.float()
    count = weight.sum(axes, keepdim=True).clamp(min=1)
    mean = (advantage * weight).sum(axes, keepdim=True) / count
    deviation = (((advantage - mean) ** 2 * weight).sum(axes, keepdim=True) / count).sqrt()
    return (advantage - mean) / torch.maximum(deviation, 0.1 * deviation.median()).clamp(min=1e-5)


def ppo_loss(ratio: Tensor, advantage: Tensor, active: Tensor, clip: float) -> Tensor:
    """Clipped surrogate (Schulman et al. 2017, arXiv 1707.06347), mean over the rows with a choice."""
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
    return -masked_mean(surrogate, active)


def clipped_value_loss(value: Tensor, old: Tensor, target: Tensor, clip: float) -> Tensor:
    """Return the larger of the Huber losses (delta 10) of the value and of the value clipped to `old` +- `clip`.

    All three in normalised units (Yu et al. 2022, arXiv 2103.01955).
    """
    near = old + (value - old).clamp(-clip, clip)
    losses = [functional.huber_loss(prediction, target, delta=10.0, reduction="none") for prediction in (value, near)]
    return torch.maximum(*losses).mean()


def explained_variance(prediction: Tensor, target: Tensor) -> float:
    """1 - var(target - prediction) / var(target); 0 when the target is constant."""
    spread = target.var()
    return float(1 - (target - prediction).var() / spread) if spread > 0 else 0.0


def mask_illegal(values: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"]) -> Float[Tensor, "*M A"]:
    """Return the values; illegal actions get -1e9, finite but below all others."""
    return values.masked_fill(~avail, ILLEGAL)


def log_policy(logits: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"]) -> Float[Tensor, "*M A"]:
    """Log-probabilities with the illegal actions excluded."""
    return torch.log_softmax(mask_illegal(logits, avail), dim=-1)


def epsilon_soft(logp: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"], epsilon: Float[Tensor, ""]) -> Float[Tensor, "*M A"]:
    """Return the log-probabilities of a policy that with probability epsilon takes any legal action instead."""
    share = avail / avail.sum(-1, keepdim=True)
    return torch.where(avail, ((1 - epsilon) * logp.exp() + epsilon * share).clamp(min=1e-12).log(), logp)


def sample(probs: Float[Tensor, "*M A"], generator: torch.Generator) -> Tensor:
    """Draw one action [*M] for each distribution."""
    return torch.multinomial(probs.flatten(0, -2), 1, generator=generator).view(probs.shape[:-1])


def epsilon_greedy(
    action: Int[Tensor, "*M"], avail: Bool[Tensor, "*M A"], epsilon: Float[Tensor, ""], generator: torch.Generator
) -> Int[Tensor, "*M"]:
    """Replace each action by any legal one with probability epsilon."""
    legal = avail.float()
    anything = sample(legal / legal.sum(-1, keepdim=True), generator)
    return torch.where(torch.rand(action.shape, generator=generator) < epsilon, anything, action)


def chunk_length(steps: int, at_least: int) -> int:
    """Return the shortest length from `at_least` on that divides an episode, at most the whole of it."""
    return next(length for length in range(min(at_least, steps), steps + 1) if steps % length == 0)


def chunks(x: Tensor, length: int) -> Tensor:
    """Cut [T, B, ...] into [length, T / length * B, ...]."""
    return x.unflatten(0, (-1, length)).transpose(0, 1).flatten(1, 2)


def entropy(logp: Float[Tensor, "*M A"]) -> Float[Tensor, "*M"]:
    """Entropy in nats; illegal actions count nothing."""
    return -(logp.exp() * logp).sum(-1)


def gather_actions(values: Float[Tensor, "*M A"], action: Tensor) -> Float[Tensor, "*M"]:
    """Return the entries of the taken actions."""
    return values.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def centre_under_policy(values: Float[Tensor, "*M A"], probs: Float[Tensor, "*M A"]) -> Float[Tensor, "*M A"]:
    """Subtract the policy's mean, so that sum_a pi(a) result(a) = 0."""
    return values - (probs * values).sum(-1, keepdim=True)


def gumbel_like(x: Float[Tensor, "*M A"], generator: torch.Generator | None) -> Float[Tensor, "*M A"]:
    """Return standard Gumbel noise g of the same shape: argmax(l + g) is a draw from softmax(l)."""
    return -torch.empty_like(x).exponential_(generator=generator).clamp(min=torch.finfo(x.dtype).tiny).log()


def gumbel_softmax(
    logits: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"], temperature: float, generator: torch.Generator | None
) -> Float[Tensor, "*M A"]:
    """Draw a one-hot legal action with the gradient of its relaxation (Jang et al. 2017, arXiv 1611.01144, straight-through).

    Forward: the one-hot of argmax(l + g), g = -log(-log u) for u uniform, which is a draw from softmax(l) whatever the
    temperature tau. Backward: softmax((l + g) / tau). Without a generator, torch's global one draws.
    """
    noisy = mask_illegal(logits, avail) + gumbel_like(logits, generator)
    soft = torch.softmax(noisy / temperature, dim=-1)
    hard = torch.zeros_like(soft).scatter(-1, noisy.argmax(-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


def action_views(joint: Float[Tensor, "*M N A"], own: Float[Tensor, "*M N A"] | None = None) -> Float[Tensor, "*M N N A"]:
    """Return the joint action for each agent's critic; view i has agent i's action from `own`, if there is one."""
    n = joint.shape[-2]
    views = joint.unsqueeze(-3).expand(*joint.shape[:-2], n, n, joint.shape[-1])
    if own is None:
        return views
    return torch.where(torch.eye(n, dtype=torch.bool, device=joint.device).unsqueeze(-1), own.unsqueeze(-2), views)


def kl(logp: Float[Tensor, "*M A"], logq: Float[Tensor, "*M A"]) -> Float[Tensor, "*M"]:
    """KL(p || q) = sum_a p (log p - log q); illegal actions count nothing."""
    return (logp.exp() * (logp - logq)).sum(-1)


def sub_policy_weights(chosen: Bool[Tensor, "*M N"], k: Tensor, count: int) -> Float[Tensor, "*M N"]:
    """Return the weights of rows for a loss of sub-policies: the mean over k of the mean over the rows of sub-policy k.

    w = 1 / (K n_{i,k}) with n_{i,k} the number of rows in which agent i chose with sub-policy k (arXiv 1706.02275, 4.3).
    """
    chosen_by = functional.one_hot(k, count) * chosen.unsqueeze(-1)
    rows = chosen_by.flatten(0, -3).sum(0).clamp(min=1)
    return (chosen_by / rows).sum(-1) / count

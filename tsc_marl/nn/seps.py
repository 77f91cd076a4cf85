"""Clusters of agents that share parameters: SePS (Christianos et al. 2021, arXiv 2102.07475), with a test for one cluster.

The encoder of a variational auto-encoder sees only the agent's number: q(z | i) = N(mu_i, sigma_i). The decoder maps
(z, o, a) to (o', r). So agents with similar transitions get close mu. L = |(o', r) - decoder|^2 + beta KL(q || N(0, I));
then k-means on mu. Held-out data give the number of clusters (see `cluster`), unlike in the paper.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from tsc_marl.nn.adam import Adam
from tsc_marl.types import Batch

LATENT, WIDTH, KL_WEIGHT = 5, 64, 1e-4
MARGIN = 0.02
"""Rise of the held-out error that fewer clusters may cost. Codes of equal agents fit noise only: they cost below .003."""


@dataclass(frozen=True)
class Transitions:
    """One row per agent and decision, scaled by column over all agents."""

    agent: Int[Tensor, "M"]
    inputs: Float[Tensor, "M I"]
    """(o, one-hot a)."""
    target: Float[Tensor, "M O"]
    """(o', r)."""
    weight: Float[Tensor, "M O"]
    """0 where a target has no meaning: columns that an agent does not have, and rows after the end of a task."""

    def pick(self, rows: Tensor) -> "Transitions":
        """Return some rows."""
        return Transitions(*(value[rows] for value in vars(self).values()))


class Codes(nn.Module):
    """q(z | i), a table of means and deviations, and the decoder. All means start at 0: only data separate them."""

    def __init__(self, n_codes: int, size_in: int, size_out: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(n_codes, LATENT))
        self.log_deviation = nn.Parameter(torch.full((n_codes, LATENT), -2.0))
        sizes = (LATENT + size_in, WIDTH, WIDTH)
        layers = [layer for i in (0, 1) for layer in (nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU())]
        self.decoder = nn.Sequential(*layers, nn.Linear(WIDTH, size_out))

    def error(self, rows: Transitions, noise: float) -> Float[Tensor, ""]:
        """Return the mean squared error; `noise` 1 samples z, 0 takes its mean."""
        mean, deviation = self.mean[rows.agent], self.log_deviation[rows.agent].exp()
        z = mean + noise * deviation * torch.randn_like(mean)
        wrong = self.decoder(torch.cat([z, rows.inputs], dim=-1)) - rows.target
        return (rows.weight * wrong**2).sum() / rows.weight.sum().clamp(min=1)

    def divergence(self) -> Float[Tensor, ""]:
        """Return KL(q(z | i) || N(0, I)), the mean over agents."""
        twice = self.mean**2 + (2 * self.log_deviation).exp() - 1 - 2 * self.log_deviation
        return twice.sum(-1).mean() / 2


def transitions(batch: Batch) -> tuple[Transitions, Transitions]:
    """Return the rows to fit, and the held-out rows: every fifth decision.

    Padded columns are zeros in o and o'. They would separate agents by their padding. So a column that is always zero for
    an agent has weight 0 for it, and its entries are set to the column's mean.
    """
    steps, _, n = batch.action.shape
    has = (batch.obs != 0).flatten(0, 1).any(0)
    obs = _scaled(batch.obs, has.expand(batch.obs.shape))
    reward = _scaled(batch.reward.unsqueeze(-1), torch.ones_like(batch.reward, dtype=torch.bool).unsqueeze(-1))
    action = functional.one_hot(batch.action, batch.avail.shape[-1]).float()
    goes_on = (~batch.terminated)[..., None, None].expand(*batch.action.shape, 1)
    varies = (obs.std((0, 1)) > 0).float() * has
    weight = torch.cat([goes_on * varies, torch.ones_like(reward)], dim=-1)
    agent = torch.arange(n).expand(batch.action.shape)
    columns = (agent, torch.cat([obs[:-1], action], -1), torch.cat([obs[1:], reward], -1), weight)
    held_out = torch.arange(steps) % 5 == 4 if steps > 4 else torch.arange(steps) < 0
    fitted, unseen = (Transitions(*(column[rows].flatten(0, 2) for column in columns)) for rows in (~held_out, held_out))
    return fitted, unseen


def _scaled(x: Tensor, has: Tensor) -> Tensor:
    """Mean 0, deviation 1 by column over the entries that agents have; 0 for the others and for a constant column."""
    axes, count = tuple(range(x.dim() - 1)), has.sum(tuple(range(x.dim() - 1))).clamp(min=1)
    mean = (x * has).sum(axes) / count
    centred = (x - mean) * has
    deviation = ((centred**2).sum(axes) / count).sqrt()
    return torch.where(deviation > 1e-6, centred / deviation.clamp(min=1e-6), 0.0)


def fit(rows: Transitions, n_codes: int, steps: int, size: int = 256) -> Codes:
    """Return codes and decoder after `steps` steps (Adam) on random rows."""
    model = Codes(n_codes, rows.inputs.shape[-1], rows.target.shape[-1])
    optimiser = Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        some = rows.pick(torch.randint(len(rows.agent), (size,)))
        optimiser.zero_grad()
        (model.error(some, 1.0) + KL_WEIGHT * model.divergence()).backward()
        optimiser.step()
        schedule.step()
    return model


def cluster(batch: Batch, steps: int = 500) -> list[int]:
    """Return the cluster of each agent, numbered in the order of their first agents; draws from torch's global generator.

    Agents' codes are replaced by the centres of k clusters. k is the smallest number whose error on held-out transitions is
    within `MARGIN` of the best. For k = 1 a decoder is fitted to one code. So one cluster, and one cluster per agent, are
    possible. SePS takes the lowest Davies-Bouldin index instead: it is undefined for both, and single agents (spread 0)
    bias it towards many clusters.
    """
    fitted, held_out = transitions(batch)
    n = batch.action.shape[-1]
    if n == 1 or len(held_out.agent) == 0:
        return [0] * n
    model, shared = fit(fitted, n, steps), fit(_merged(fitted), 1, steps)
    with torch.no_grad():
        one = float(shared.error(_merged(held_out), 0.0))
        enough = (1 + MARGIN) * min(float(model.error(held_out, 0.0)), one)
        if one <= enough:
            return [0] * n
        codes = model.mean.clone()
        for k in range(2, n):
            centres, label = k_means(codes.numpy(), k)
            model.mean.copy_(torch.from_numpy(centres[label]))
            if float(model.error(held_out, 0.0)) <= enough:
                order = list(dict.fromkeys(label.tolist()))
                return [order.index(name) for name in label.tolist()]
    return list(range(n))


def _merged(rows: Transitions) -> Transitions:
    """Let all agents be number 0."""
    return Transitions(torch.zeros_like(rows.agent), rows.inputs, rows.target, rows.weight)


def k_means(points: np.ndarray, k: int, restarts: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres [k, Z] and labels [N] of the best of some runs of k-means++."""
    from scipy.cluster.vq import kmeans2  # a third of a second at the start of every process, for one option

    random = np.random.default_rng(int(torch.randint(2**31, ())))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of clusters that ran empty: then fewer than k serve
        tries = [kmeans2(points, k, minit="++", rng=random) for _ in range(restarts)]
    return min(tries, key=lambda fit: float(((points - fit[0][fit[1]]) ** 2).sum()))

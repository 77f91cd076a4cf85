r"""Bias and variance of gradient estimates on independent episodes: pure functions of tensors.

Let x_e and y_e be two estimators' gradients in episode e. The mean of <x_e, y_f> over all pairs e != f estimates <E x, E y>
without bias: only the pairs e = f have common noise. Let r be the true gradient and, estimated in this
way, X = |E x|^2, C = <E x, E r>, R = |E r|^2; beside them S = E |x - E x|^2. Then

- cosine = C / sqrt(X R) measures the bias, without the noise in x and r;
- the mean over n episodes has a cosine of about sqrt(n / (n + S / X)) with E x, so S / (3 X) episodes give 1/2: this measures
  the variance;
- gain(n) = C / sqrt(X + S / n) measures both: the rise of the return per unit of step along
  the mean gradient of n episodes.

Axes: R bootstrap resamples (row 0 is the sample itself), V views (see `GradientStatistics.quality`), E episodes, N agents,
P coordinates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

TRUTH = "truth"
"""Name of the true gradient among the estimators."""
SHARED = "shared"
"""Name of the reference estimator."""
AGGREGATE_VIEWS = ("agents", "network")
"""Views of all agents: their gradients side by side, and summed where agents share parameters."""
BATCH = 2
"""Episodes in one batch of learning."""
BATCH_SIZES = tuple(2**k for k in range(7))
"""Numbers of episodes in a batch for which gains are computed."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval over episodes, or over states; nan where it is not significant."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class GradientQuality:
    """Quality of an estimator's gradient."""

    cosine: Estimate
    """Cosine of its mean with the true gradient; nan unless both differ significantly from zero."""
    episodes: Estimate
    """Episodes whose mean gradient has cosine 1/2 to the expected gradient. nan unless the expected gradient differs
    significantly from zero; `low` is a lower bound even then."""
    gain: Estimate
    """Rise of the return along the gradient of one batch, in reward per decision and unit of step."""
    relative: Estimate
    """Gain divided by the gain of `shared`; nan unless the latter differs significantly from zero."""


@dataclass(frozen=True)
class GradientStatistics:
    """Quality of all estimators at one policy."""

    quality: dict[str, dict[str, GradientQuality]]
    """Quality per estimator for `agents` and `network` (see AGGREGATE_VIEWS), and for each agent by its name."""
    gains: dict[str, dict[int, Estimate]]
    """Gain per estimator for `agents` by the number of episodes in a batch."""
    reliability: Estimate
    """Expected cosine for `agents` between two true gradients, each from half of the episodes."""


@dataclass(frozen=True)
class Products:
    """Inner products of an estimator's mean gradient, and its size."""

    own: Float[Tensor, "R V"]
    """X, the product with itself."""
    true: Float[Tensor, "R V"]
    """C, the product with the true gradient."""
    size: Float[Tensor, "R V"]
    """X + S, the mean squared length of one episode's gradient."""

    def power(self, episodes: int) -> Float[Tensor, "R V"]:
        """Return the mean squared length of the mean gradient of n episodes, X + S / n; X is at least 0 here."""
        own = self.own.clamp(min=0)
        return (own + (self.size - own) / episodes).clamp(min=1e-30)

    def gain(self, episodes: int) -> Float[Tensor, "R V"]:
        """Return C / sqrt(X + S / n)."""
        return self.true / self.power(episodes).sqrt()


def gradient_statistics(
    gradients: Mapping[str, Sequence[Float[Tensor, "E N P"]]], group: Int[Tensor, "N"], names: Sequence[str]
) -> GradientStatistics:
    """Return the quality of all estimators.

    Args:
        gradients: per estimator the gradients of each set of episodes; needs `truth` and `shared`. Pairs stay within a set.
        group: per agent the number of the network that it uses.
        names: names of the agents.
    """
    by_name = products(gradients, group)
    truth, shared = by_name[TRUTH], by_name[SHARED].gain(BATCH)
    quality = {}
    for name, x in by_name.items():
        significant = _low(x.own) > 0
        columns = (
            _estimates(x.true / (x.own * truth.own).sqrt(), significant & (_low(truth.own) > 0)),
            _estimates(torch.where(x.own > 0, (x.size - x.own) / (3 * x.own), torch.inf), significant),
            _estimates(x.gain(BATCH)),
            _estimates(x.gain(BATCH) / shared, _low(shared) > 0),
        )
        views = zip((*AGGREGATE_VIEWS, *names), zip(*columns, strict=True), strict=True)
        quality[name] = {view: GradientQuality(*row) for view, row in views}
    gains = {name: {n: _estimates(x.gain(n))[0] for n in BATCH_SIZES} for name, x in by_name.items()}
    half = sum(len(part) for part in gradients[TRUTH]) // 2
    return GradientStatistics(quality, gains, _estimates(truth.own.clamp(min=0) / truth.power(half))[0])


def products(gradients: Mapping[str, Sequence[Float[Tensor, "E N P"]]], group: Int[Tensor, "N"]) -> dict[str, Products]:
    """Return the products of every estimator, each a mean over the sets of episodes.

    The same resampled episodes serve all estimators, so their numbers are comparable within a resample.
    """
    random = torch.Generator().manual_seed(0)
    weights = [_resampled(len(truth), random) for truth in gradients[TRUTH]]
    result = {}
    for name, parts in gradients.items():
        sums = []
        for x, truth, weight in zip(parts, gradients[TRUTH], weights, strict=True):
            own = gram(x, x, group)
            size = weight @ own.diagonal(dim1=1, dim2=2).T / weight.sum(1, keepdim=True)
            sums.append((between(own, weight), between(gram(x, truth, group), weight), size))
        result[name] = Products(*(torch.stack(part).mean(0) for part in zip(*sums, strict=True)))
    return result


def gram(x: Float[Tensor, "E N P"], y: Float[Tensor, "E N P"], group: Int[Tensor, "N"]) -> Float[Tensor, "V E E"]:
    """Return the inner products of all episodes: all agents, sums over shared parameters, each agent."""
    each = torch.einsum("enp,fnp->nef", x, y)
    added = [torch.zeros_like(z).index_add(1, group, z) for z in (x, y)]
    return torch.cat([each.sum(0, keepdim=True), torch.einsum("enp,fnp->ef", *added).unsqueeze(0), each])


def between(products: Float[Tensor, "V E E"], weights: Float[Tensor, "R E"]) -> Float[Tensor, "R V"]:
    """Return the mean over pairs of different episodes, where each episode counts as often as its weight."""
    total = ((weights @ products) * weights).sum(-1).T - weights**2 @ products.diagonal(dim1=1, dim2=2).T
    pairs = weights.sum(1) ** 2 - (weights**2).sum(1)
    return total / pairs.unsqueeze(1)


def _resampled(count: int, random: torch.Generator) -> Float[Tensor, "R E"]:
    """Return how often each episode is in the sample itself, and in each resample."""
    drawn = torch.randint(count, (RESAMPLES, count), generator=random)
    return torch.cat([torch.ones(1, count), one_hot(drawn, count).sum(1)]).double()


def _low(samples: Float[Tensor, "R V"]) -> Float[Tensor, "V"]:
    return samples[1:].nanquantile(0.025, dim=0)


def _estimates(samples: Float[Tensor, "R V"], significant: Bool[Tensor, "V"] | None = None) -> list[Estimate]:
    """Return the estimate of each view; its value is nan where it is not significant."""
    value = samples[0] if significant is None else torch.where(significant, samples[0], torch.nan)
    ends = samples[1:].nanquantile(torch.tensor([0.025, 0.975], dtype=samples.dtype), dim=0, interpolation="nearest")
    return [Estimate(*row) for row in torch.stack([value, *ends], dim=1).tolist()]

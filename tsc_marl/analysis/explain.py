"""What a trained policy thinks: one greedy episode as a table with a row per decision and signal, and a summary per signal.

The critic's are V^i and, around it, what each phase adds to the own return (A_o) and to the others' (A_e). Beside them stands
what happened: GAE^i, the residual eps^i = y^i - V^i - A_o^i(a^i) that the signal's own phase does not explain, with y^i the
one-step target R^i + gamma G^i_next of the lambda-return G^i, and the implied reward V^i + A_o^i(a^i) - gamma V^i_next: the
closer to R^i, the better the critic.
"""

import csv
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Tensor

from tsc_marl import ops
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import Policy, TrainedPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.sim import road_network, scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Spec
from tsc_marl.viz import delay_map


@dataclass(frozen=True)
class EpisodeTrace:
    """One greedy episode and what the policy thought in it."""

    spec: Spec
    about: str
    """What `own` is of, as `Algorithm.about`."""
    phases: tuple[int, ...]
    """Per signal, how many it has."""
    time_s: np.ndarray
    """[T] since the start of the window."""
    action: Tensor
    """[T, N]"""
    avail: Tensor
    """[T, N, A]"""
    reward: Tensor
    """[T, N]"""
    thoughts: dict[str, Tensor]
    """As `Algorithm.appraise`, [T + 1, N, ...]: the last row is after the last decision."""
    happened: dict[str, Tensor]
    """[T, N] `gae`, `residual` and `implied_reward` (see above), where the values are of each signal's own reward."""
    figures: dict[str, float]
    """As in `sim.metrics`."""

    def taken(self, thought: str) -> Tensor:
        """Return what it thought of the phases that it chose, [T, N]."""
        return ops.gather_actions(self.thoughts[thought][:-1], self.action)


def play(task: Task, policy: Policy, seed: int) -> EpisodeTrace:
    """Play one episode greedily and ask the policy at each decision.

    Raises:
        UserError: for a policy that has no opinion: a classical controller, or an algorithm that appraises nothing.
    """
    if not isinstance(policy, TrainedPolicy):
        raise UserError(f"{policy.name} is a classical controller, which values nothing; give a trained policy")
    with closing(policy.task_for(task).env()) as env:
        return _play(env, policy, seed)


def _play(env: TrafficEnv, policy: TrainedPolicy, seed: int) -> EpisodeTrace:
    driver, done = policy.start(env, seed), False
    algorithm, spec = driver.algorithm, driver.algorithm.spec
    seen: list[tuple[np.ndarray, ...]] = []
    thoughts: list[dict[str, Tensor]] = []
    with torch.inference_mode():
        while True:
            now = (torch.from_numpy(env.obs)[None], torch.from_numpy(env.avail)[None])
            thoughts.append(algorithm.value_estimates(*now, torch.from_numpy(env.state)[None], driver.carry))
            if not thoughts[0]:
                raise UserError(
                    f"{policy.name} values no phase at a time, so there is nothing to explain; try jointq, mappo or iql"
                )
            if done:
                break
            action = driver.act()
            time, avail = np.array(env.now - env.scenario.begin_s), env.avail
            reward, done = env.step(action)
            seen.append((time, env.executed, avail, reward))
    time_s, *arrays = (np.stack(column) for column in zip(*seen, strict=True))
    action, avail, reward = map(torch.from_numpy, arrays)
    known = {name: torch.cat([thought[name] for thought in thoughts]) for name in thoughts[0]}
    happened = _outcomes(policy.config, known, action, reward.float())
    return EpisodeTrace(
        spec, algorithm.value_scope, env.n_phases, time_s, action, avail, reward.float(), known, happened, env.metrics()
    )


def _outcomes(config: Any, known: Mapping[str, Tensor], action: Tensor, reward: Tensor) -> dict[str, Tensor]:
    if "others" not in known:  # its values are not of each agent's own reward
        return {}
    value, cut = known["value"].unsqueeze(1), torch.zeros(len(reward), 1, dtype=torch.bool)
    cut[-1] = True
    streams = (reward.unsqueeze(1), value, torch.zeros_like(cut), cut)
    gae = ops.gae(*streams, config.gamma, config.gae_lambda)
    own = ops.gather_actions(known["own"][:-1], action)
    target = ops.one_step_target(streams[0], value, gae + value[:-1], *streams[2:], config.gamma).squeeze(1)
    q = known["value"][:-1] + own
    return {"gae": gae.squeeze(1), "residual": target - q, "implied_reward": q - config.gamma * known["value"][1:]}


def write(path: Path, story: EpisodeTrace) -> None:
    """Write a row per decision and signal; what each phase adds stands in `own_0`, `others_0` …, empty where it is not legal."""
    n_actions = story.avail.shape[-1]
    plain = [name for name in ("probs", "own", "others") if name in story.thoughts]
    columns = {name: story.taken(name) for name in plain} | story.happened
    if "value" in story.thoughts:
        columns["value"] = story.thoughts["value"][:-1].expand_as(story.reward)
    heads = ["second", "signal", "phase", "choices", "reward", *columns]
    per_phase = [f"{name}_{a}" for name in plain for a in range(n_actions)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*heads, *per_phase])
        for t, second in enumerate(story.time_s.tolist()):
            for i, name in enumerate(story.spec.names):
                legal = story.avail[t, i].tolist()
                row = [f"{second:.0f}", name, int(story.action[t, i]), sum(legal), _format(story.reward[t, i])]
                row += [_format(values[t, i]) for values in columns.values()]
                row += [_format(x) if ok else "" for key in plain for x, ok in zip(story.thoughts[key][t, i], legal, strict=True)]
                writer.writerow(row)


def _format(x: Tensor) -> str:
    return f"{float(x) + 0:.5g}"  # no -0


def summary(story: EpisodeTrace) -> dict[str, np.ndarray]:
    """Return per signal [N], over the decisions with a choice, the table's figures, in the reward's unit where they have one.

    `own` and `others`: how much depends on its choice, the largest less the smallest of the legal phases; `gap`: what the best
    has over the second best, in the sum of both; `implied`: correlation of the implied with the actual reward.
    """
    choice = (story.avail.sum(-1) > 1).float()
    probs, avail = story.thoughts["probs"][:-1], story.avail
    found = {"reward": story.reward.mean(0), "entropy": ops.agent_mean(ops.entropy(probs.clamp(min=1e-12).log()), choice)}
    if "value" in story.thoughts:
        found["value"] = story.thoughts["value"].mean(0).expand(len(story.spec.names))
    heads = {name: story.thoughts[name][:-1] for name in ("own", "others") if name in story.thoughts}
    for name, head in heads.items():
        span = ops.mask_illegal(head, avail).amax(-1) + ops.mask_illegal(-head, avail).amax(-1)
        found[name] = ops.agent_mean(span, choice)
    if heads:
        best = ops.mask_illegal(sum(heads.values(), torch.zeros(())), avail).topk(2, dim=-1).values
        found["gap"] = ops.agent_mean(best[..., 0] - best[..., 1], choice)
    if "others" in heads:
        found["share"] = found["others"] / (found["own"] + found["others"]).clamp(min=1e-9)
        pairs = zip(story.happened["implied_reward"].T, story.reward.T, strict=True)
        found["implied"] = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])
    return {name: values.numpy() for name, values in found.items()}


COLUMNS = {
    "reward": ("reward", ".2f"), "value": ("value", ".1f"), "own": ("own effect", ".3f"), "others": ("on others", ".3f"),
    "share": ("share", ".0%"), "gap": ("gap", ".3f"), "entropy": ("entropy", ".2f"), "implied": ("implied", ".2f"),
}  # fmt: skip


def table(title: str, story: EpisodeTrace) -> Table:
    """Return a row per signal; the one that matters most for others comes first, else for itself."""
    figures = summary(story)
    result = Table(title=title, title_justify="left")
    result.add_column("signal", no_wrap=True)
    result.add_column("phases", justify="right")
    known = [name for name in COLUMNS if name in figures]
    for name in known:
        result.add_column(COLUMNS[name][0], justify="right")
    matter = [figures[name] for name in ("others", "own") if name in figures and figures[name].any()]
    order = (matter or [-figures["reward"]])[0].argsort()[::-1]
    for i in order.tolist():
        cells = [f"{figures[name][i]:{COLUMNS[name][1]}}" for name in known]
        result.add_row(story.spec.names[i], str(story.phases[i]), *cells)
    return result


WHOSE = {"own": "its own return", "team": "the team's return", "utility": "its utility, which has no unit,"}
"""What a choice has an effect on, by what the algorithm speaks of."""


def legend(story: EpisodeTrace) -> str:
    """Return what the columns of the table mean."""
    lines = ["reward, value: means in the reward's unit; entropy [nats] of the policy that explores"]
    if "own" in story.thoughts:
        lines.append(
            f"own effect: how much of {WHOSE[story.about]} depends on the choice, best legal phase less worst; "
            "gap: best phase over second best"
        )
    if "others" in story.thoughts:
        lines.append(
            "on others: the same for the others' returns; share: of both; implied: correlation of implied and actual reward"
        )
    return "\n".join(lines)


MANY = 30
"""Signals, more than which have no room for their names on the map."""


def draw(path: Path, task: Task, story: EpisodeTrace, title: str) -> None:
    """Draw on the map how much depends on each signal's choice: for itself, and where the policy knows it, for others."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    figures = summary(story)
    panels = {"own": f"for {WHOSE[story.about].strip(',')}", "others": "for the returns of others"}
    panels = {name: text for name, text in panels.items() if name in figures} or {"entropy": "entropy of the policy [nats]"}
    net = road_network.read(scenario.load(task.network).net)
    roads = list(delay_map.shapes(scenario.load(task.network).net).values())
    x, y = np.array([(signal.x, signal.y) for signal in net.signals]).T
    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), 5.4), squeeze=False, layout="constrained")
    largest = max(float(figures[name].max()) for name in panels)
    scale = Normalize(0, largest)
    for axis, (name, text) in zip(axes[0], panels.items(), strict=True):
        axis.add_collection(LineCollection(roads, colors="0.82", linewidths=0.8))
        size = 20 + 500 * figures[name] / largest
        axis.scatter(x, y, s=size, c=figures[name], cmap="viridis_r", norm=scale, edgecolors="0.2", zorder=3)
        for signal in net.signals if len(net.signals) <= MANY else ():
            axis.annotate(signal.name, (signal.x, signal.y), (10, 10), textcoords="offset points", fontsize=7, color="0.35")
        axis.set_aspect("equal")
        axis.set_axis_off()
        axis.set_title(text)
    measure = "" if story.about == "utility" else ", in the reward's unit"
    unit = "[nats]" if "entropy" in panels else f"best legal phase less worst, mean over decisions{measure}"
    figure.colorbar(ScalarMappable(scale, "viridis_r"), ax=axes, shrink=0.7, label=unit)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)

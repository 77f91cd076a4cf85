"""Estimates of a trained policy over one greedy episode: a table per decision and signal, and a summary per signal.

The critic estimates the value V^i, the effect of each phase on the signal's own return (A_o^i), and its effect on the returns of
others (A_e^i). Three outcomes stand beside the estimates, with y^i = R^i + gamma G^i_next the one-step target of the
lambda-return G^i:

- GAE^i;
- the residual eps^i = y^i - V^i - A_o^i(a^i), which the signal's own phase does not explain;
- the implied reward V^i + A_o^i(a^i) - gamma V^i_next: the closer to R^i, the better the critic.
"""

import csv
from collections.abc import Mapping, Sequence
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
from tsc_marl.evaluation.tables import Column, left_out_first, number, terminal_table
from tsc_marl.rollout.policies import Policy, TrainedPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.sim import road_network, scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.types import Spec
from tsc_marl.viz import delay_map
from tsc_marl.viz.plotting import new_figure


@dataclass(frozen=True)
class EpisodeTrace:
    """One greedy episode, with the estimates of the policy; T decisions, N signals, A phases."""

    spec: Spec
    value_scope: str
    """Return that `own` is an effect on, as `Algorithm.value_scope`."""
    phases: tuple[int, ...]
    """Number of phases per signal."""
    time_s: np.ndarray
    """[T] seconds since the start of the window."""
    action: Tensor
    """[T, N]"""
    avail: Tensor
    """[T, N, A]"""
    reward: Tensor
    """[T, N]"""
    estimates: dict[str, Tensor]
    """[T + 1, N, ...] each, as `Algorithm.value_estimates` returns them; the last row is after the last decision."""
    outcomes: dict[str, Tensor]
    """[T, N] `gae`, `residual` and `implied_reward`; empty where values are not of each signal's own reward."""
    metrics: dict[str, float]
    """Metrics of the episode (`sim.metrics`)."""

    def of_chosen(self, name: str) -> Tensor:
        """Return the estimates of the phases that were chosen, [T, N]."""
        return ops.gather_actions(self.estimates[name][:-1], self.action)


def play(task: Task, policy: Policy, seed: int) -> EpisodeTrace:
    """Play one episode greedily and record the policy's estimates at each decision.

    Raises:
        UserError: for a policy without estimates: a classical controller, or an algorithm without values of single phases.
    """
    if not isinstance(policy, TrainedPolicy):
        raise UserError(f"{policy.name} is a classical controller, which values nothing; give a trained policy")
    with closing(policy.task_for(task).env()) as env:
        return _play(env, policy, seed)


def _play(env: TrafficEnv, policy: TrainedPolicy, seed: int) -> EpisodeTrace:
    driver, done = policy.start(env, seed), False
    algorithm, spec = driver.algorithm, driver.algorithm.spec
    if policy.portable and not policy.fits_wholly(algorithm):
        raise UserError(f"the critic of {policy.name} has the size of the network of its training; explain the policy there")
    steps: list[tuple[np.ndarray, ...]] = []
    recorded: list[dict[str, Tensor]] = []
    while True:
        recorded.append(driver.value_estimates())
        if not recorded[0]:
            raise UserError(f"{policy.name} values no phase at a time, so there is nothing to explain; try jointq, mappo or iql")
        if done:
            break
        action = driver.act()
        time, avail = np.array(env.now - env.scenario.begin_s), env.avail
        reward, done = env.step(action)
        steps.append((time, env.executed, avail, reward))
    time_s, *arrays = (np.stack(column) for column in zip(*steps, strict=True))
    action, avail, reward = map(torch.from_numpy, arrays)
    estimates = {name: torch.cat([step[name] for step in recorded]) for name in recorded[0]}
    outcomes = _outcomes(policy.config, estimates, action, reward.float())
    return EpisodeTrace(
        spec, algorithm.value_scope, env.n_phases, time_s, action, avail, reward.float(), estimates, outcomes, env.metrics()
    )


def _outcomes(config: Any, estimates: Mapping[str, Tensor], action: Tensor, reward: Tensor) -> dict[str, Tensor]:
    if "others" not in estimates:  # its values are not of each agent's own reward
        return {}
    value, cut = estimates["value"].unsqueeze(1), torch.zeros(len(reward), 1, dtype=torch.bool)
    cut[-1] = True
    streams = (reward.unsqueeze(1), value, torch.zeros_like(cut), cut)
    gae = ops.gae(*streams, config.gamma, config.gae_lambda)
    own = ops.gather_actions(estimates["own"][:-1], action)
    target = ops.one_step_target(streams[0], value, gae + value[:-1], *streams[2:], config.gamma).squeeze(1)
    q = estimates["value"][:-1] + own
    return {"gae": gae.squeeze(1), "residual": target - q, "implied_reward": q - config.gamma * estimates["value"][1:]}


def write(path: Path, trace: EpisodeTrace, served: Mapping[str, Sequence[str]]) -> None:
    """Write a row per decision and signal as CSV; `own_0`, `others_0` … are the effects of each phase, empty if not legal.

    Args:
        path: the file.
        trace: of the episode.
        served: by signal what each phase serves.
    """
    n_actions = trace.avail.shape[-1]
    plain = [name for name in ("probs", "own", "others") if name in trace.estimates]
    columns = {name: trace.of_chosen(name) for name in plain} | trace.outcomes
    if "value" in trace.estimates:
        columns["value"] = trace.estimates["value"][:-1].expand_as(trace.reward)
    heads = ["second", "signal", "phase", "serves", "choices", "reward", *columns]
    per_phase = [f"{name}_{a}" for name in plain for a in range(n_actions)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*heads, *per_phase])
        for t, second in enumerate(trace.time_s.tolist()):
            for i, name in enumerate(trace.spec.names):
                legal = trace.avail[t, i].tolist()
                phase = int(trace.action[t, i])
                row = [f"{second:.0f}", name, phase, served[name][phase], sum(legal), _format(trace.reward[t, i])]
                row += [_format(values[t, i]) for values in columns.values()]
                row += [
                    _format(x) if ok else "" for key in plain for x, ok in zip(trace.estimates[key][t, i], legal, strict=True)
                ]
                writer.writerow(row)


def _format(x: Tensor) -> str:
    return f"{float(x) + 0:.5g}"  # no -0


def summary(trace: EpisodeTrace) -> dict[str, np.ndarray]:
    """Return means per signal [N] over the decisions with a choice, in the reward's unit where they have one.

    `own` and `others`: range of the effect over the legal phases. `gap`: sum of both effects, best phase less second best.
    `share`: that of `others` in both ranges. `implied`: correlation of the implied with the actual reward.
    """
    choice = (trace.avail.sum(-1) > 1).float()
    probs, avail = trace.estimates["probs"][:-1], trace.avail
    means = {"reward": trace.reward.mean(0), "entropy": ops.agent_mean(ops.entropy(probs.clamp(min=1e-12).log()), choice)}
    if "value" in trace.estimates:
        means["value"] = trace.estimates["value"].mean(0).expand(len(trace.spec.names))
    heads = {name: trace.estimates[name][:-1] for name in ("own", "others") if name in trace.estimates}
    for name, head in heads.items():
        span = ops.mask_illegal(head, avail).amax(-1) + ops.mask_illegal(-head, avail).amax(-1)
        means[name] = ops.agent_mean(span, choice)
    if heads:
        best = ops.mask_illegal(sum(heads.values(), torch.zeros(())), avail).topk(2, dim=-1).values
        means["gap"] = ops.agent_mean(best[..., 0] - best[..., 1], choice)
    if "others" in heads:
        means["share"] = means["others"] / (means["own"] + means["others"]).clamp(min=1e-9)
        pairs = zip(trace.outcomes["implied_reward"].T, trace.reward.T, strict=True)
        means["implied"] = torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in pairs])
    return {name: values.numpy() for name, values in means.items()}


COLUMNS = (
    Column("signal", "signal"),
    Column("phases", "phases", priority=3),
    Column("reward", "reward", number(".2f")),
    Column("value", "value", number(".1f")),
    Column("own", "own\neffect", number(".3f")),
    Column("others", "effect on\nothers", number(".3f")),
    Column("share", "others' share\nof effects", number(".0%"), 2),
    Column("gap", "gap to second\nbest phase", number(".3f"), 1),
    Column("entropy", "entropy\n[nat]", number(".2f")),
    Column("implied", "implied\nreward, r", number(".2f"), 4),
)
MINOR = left_out_first(COLUMNS)


def table(title: str, trace: EpisodeTrace) -> Table:
    """Return a row per signal, largest effect on others first, else largest effect on itself, else least reward."""
    means = summary(trace)
    keys = next((means[name] for name in ("others", "own") if name in means and means[name].any()), -means["reward"])
    columns = [column for column in COLUMNS if column.key in ("signal", "phases", *means)]
    rows = [
        {"signal": trace.spec.names[i], "phases": trace.phases[i]} | {name: float(values[i]) for name, values in means.items()}
        for i in keys.argsort()[::-1].tolist()
    ]
    return terminal_table(title, columns, rows)


SCOPES = {"own": "its own return", "team": "the team's return", "utility": "its utility"}
"""Return that the own effect is on, by the algorithm's `value_scope`; a utility has no unit."""


def legend(trace: EpisodeTrace) -> str:
    """Return the meaning of the table's columns."""
    lines = ["reward, value: means in the reward's unit; entropy [nat] of the policy that explores"]
    if "own" in trace.estimates:
        scope = SCOPES[trace.value_scope]
        lines.append(f"own effect: range of {scope} over the legal phases")
    if "others" in trace.estimates:
        lines.append("effect on others: the same for the returns of others")
        lines.append("implied reward, r: correlation of the reward with the one that the critic's values imply")
    return "\n".join(lines)


LABELLED = 30
"""A map with more signals has no room for their names."""


def draw(path: Path, task: Task, trace: EpisodeTrace, title: str) -> None:
    """Draw the effect of each signal's choice on a map: on its own return and, where estimated, on those of others."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    means = summary(trace)
    panels = {"own": f"on {SCOPES[trace.value_scope]}", "others": "on the returns of others"}
    panels = {name: text for name, text in panels.items() if name in means} or {"entropy": "entropy of the policy [nat]"}
    loaded = scenario.load(task.network)
    net, roads = road_network.of(loaded), list(delay_map.shapes(loaded.net).values())
    x, y = np.array([(signal.x, signal.y) for signal in net.signals]).T
    figure = new_figure(figsize=(4.5 * len(panels), 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    largest = max(float(means[name].max()) for name in panels)
    scale = Normalize(0, largest)
    for axis, (name, text) in zip(axes[0], panels.items(), strict=True):
        axis.add_collection(LineCollection(roads, colors="0.82", linewidths=0.8))
        size = 20 + 500 * means[name] / largest
        axis.scatter(x, y, s=size, c=means[name], cmap="viridis_r", norm=scale, edgecolors="0.2", zorder=3)
        for signal in net.signals if len(net.signals) <= LABELLED else ():
            axis.annotate(signal.name, (signal.x, signal.y), (8, 9), textcoords="offset points", fontsize=7, color="0.35")
        axis.set_aspect("equal")
        axis.set_axis_off()
        axis.set_title(text)
    unit = "" if trace.value_scope == "utility" else ", in the reward's unit"
    label = "[nat]" if "entropy" in panels else f"best legal phase less worst,\nmean over decisions{unit}"
    figure.colorbar(ScalarMappable(scale, "viridis_r"), ax=axes, shrink=0.7, label=label)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)

"""How large a phase's effect on other signals is beside that on its own: branches of running simulations, tables, a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import ceil, isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from tsc_marl import controllers
from tsc_marl.analysis import branch_effects, branch_scores
from tsc_marl.analysis.branch_file import Branches, BranchHeader, join
from tsc_marl.analysis.gradient_statistics import Estimate
from tsc_marl.console import progress
from tsc_marl.errors import UserError
from tsc_marl.evaluation.tables import Column, terminal_table
from tsc_marl.rollout.branches import BranchedState, BranchPlan
from tsc_marl.rollout.policies import ControllerPolicy, Policy, TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.viz.plotting import new_figure

HORIZONS_S = (30, 60, 100, 150)
"""Horizons of the tables [s]; the longest that was played comes with them."""
VERDICT_S = 100
"""Horizon of the verdict [s], unless a shorter one was played."""
STRETCH_S = 10
"""Stretches of the picture [s]."""
FIRST = 0.1
"""Share of the window before the first state: the roads fill."""


@dataclass(frozen=True)
class Sample:
    """What is branched, and how often."""

    seeds: tuple[int, ...]
    """SUMO seeds of the episodes."""
    states: int
    signals: int
    """Signals forced at each state, at most."""
    continuations: int
    horizon_s: float
    greedy: bool
    """Whether a trained policy takes its most likely phases."""

    def plans(self, task: Task) -> list[BranchPlan]:
        """Return a plan for each state: evenly spread over the window, at a random place in its part of it, in random order.

        Raises:
            UserError: when the branches do not fit into the window.
        """
        decision_s = task.timing.decision_s
        horizon, decisions = ceil(self.horizon_s / decision_s), task.decisions
        first, last = round(FIRST * decisions), decisions - horizon
        if last <= first:
            raise UserError(
                f"horizon-s {self.horizon_s:g} does not fit into the window of {task.network}, {task.scenario.duration_s} s, "
                "of which the first tenth fills the roads; give a shorter one"
            )
        rng = np.random.default_rng(self.seeds)
        drawn = (rng.permutation(self.states) + rng.random(self.states)) / self.states
        at = (first + drawn * (last - first)).astype(int).tolist()
        return [BranchPlan(decision, self.signals, self.continuations, horizon) for decision in at]


def check(task: Task, policy: Policy, sample: Sample) -> None:
    """Refuse what cannot be measured.

    Raises:
        UserError: then.
    """
    if isinstance(policy, ControllerPolicy) and controllers.find(policy.name).sumo_controlled:
        raise UserError(
            f"{policy.name} leaves the lights to SUMO's programs, so no phase can be forced; give another policy, such as "
            "max_pressure"
        )
    if sample.continuations < 2:
        raise UserError(f"continuations must be at least 2, to tell effects from chance; got {sample.continuations}")
    if sample.states < 2:
        raise UserError(f"states must be at least 2, for the intervals; got {sample.states}")
    if len(task.net().signals) < 2:
        raise UserError(f"{task.network} has one signal, so there are no others; give a network with several")
    sample.plans(task)


def play(task: Task, policy: Policy, label: str, timing: str, sample: Sample, workers: int, path: Path) -> Branches:
    """Play all branches, and write those of all states so far after each state.

    Args:
        task: network, timing and demand.
        policy: plays before and after the forced phases.
        label: its name.
        timing: name of the signal timing.
        sample: what is branched.
        workers: processes that simulate.
        path: the file.
    """
    played = policy.task_for(task)
    paid = replace(played, sim=replace(played.sim, reward="delay"))
    jobs = []
    for i, plan in enumerate(sample.plans(task)):
        seed = sample.seeds[i % len(sample.seeds)]
        explore = seed if isinstance(policy, TrainedPolicy) and not sample.greedy else None
        jobs.append(Job(i, paid, policy, seed, explore_seed=explore, branches=plan))
    states: dict[int, BranchedState] = {}
    branches: Branches | None = None
    with Pool(min(workers, len(jobs))) as pool, progress(f"{task.network} {label}", len(jobs), unit="state") as bar:
        spec = pool.read_spec(paid)
        header = BranchHeader(
            task.network, label, sample.greedy and isinstance(policy, TrainedPolicy), timing, task.timing.decision_s, spec.names,
            spec.neighbours, paid.sim.observation, paid.sim.observation_version, _gamma(policy), version("libsumo"),
        )  # fmt: skip
        for result in pool.run(jobs):
            assert result.branched is not None
            other = played.sim.reward != "delay"  # a critic of another reward estimates something else
            states[result.job.episode] = replace(result.branched, estimates={}) if other else result.branched
            branches = join(header, [state for _, state in sorted(states.items())])
            branches.save(path)
            bar.advance()
    assert branches is not None
    return branches


def _gamma(policy: Policy) -> float:
    return float(getattr(policy.config, "gamma", 1.0)) if isinstance(policy, TrainedPolicy) else 1.0


def with_critic(branches: Branches, task: Task, policy: TrainedPolicy) -> Branches:
    """Return the branches with the estimates of another critic at their states.

    Raises:
        UserError: when it observes other things, was paid otherwise, or estimates no effects.
    """
    header, played = branches.header, policy.task_for(task)
    own = (header.observation, header.observation_version)
    if (played.sim.observation, played.sim.observation_version) != own or played.sim.reward != "delay":
        raise UserError(
            f"{policy.name} has observation {played.sim.observation}, version {played.sim.observation_version}, and reward "
            f"{played.sim.reward}; the branches have {own[0]}, version {own[1]}, and delay: play branches with this policy"
        )
    with Pool(1) as pool:
        algorithm = policy.algorithm(pool.read_spec(played))
    obs, avail, state = (torch.from_numpy(array) for array in (branches.obs, branches.avail, branches.state))
    with torch.inference_mode():
        estimates = algorithm.value_estimates(obs, avail, state, None) if policy.fits_wholly(algorithm) else {}
    if "own" not in estimates:
        where = f"on {task.network}"
        raise UserError(f"the critic of {policy.name} estimates no effects of phases {where}; give a run of jointq {where}")
    nothing = torch.full(branches.avail.shape, torch.nan)
    own, others = (estimates.get(name, nothing).numpy() for name in ("own", "others"))
    return replace(branches, header=replace(header, critic_gamma=_gamma(policy)), own=own, others=others)


def horizons(branches: Branches) -> list[int]:
    """Return the horizons of the tables, in decisions."""
    longest, decision_s = branches.change.shape[3], branches.header.decision_s
    return sorted({min(round(seconds / decision_s), longest) for seconds in HORIZONS_S} | {longest})


def verdict(branches: Branches) -> str:
    """Return the answer in a line: the share of others in the variance, and how well own rewards point where the team gains."""
    horizon = min(round(VERDICT_S / branches.header.decision_s), branches.change.shape[3])
    of = branch_effects.effects(branches, horizon)
    where = f"{branches.header.network}, {branches.header.policy}, within {of.horizon_s:.0f} s"
    if isnan(of.cosine_own.value):
        return f"{where}: the effects cannot be told from chance; more states or continuations may help"
    near = f"cosine {of.cosine_own.value:.2f}, own + neighbours at {of.cosine_near.value:.2f}"
    if of.share.low <= 0:
        return f"{where}: no effect on others is shown ({_span(of.share)} of the variance); own agrees with the team at {near}"
    share = f"{of.share.value:.0%} ({_span(of.share)})"
    return f"{where}: others' effect is {share} of the variance; own agrees with the team at {near}"


def _span(estimate: Estimate) -> str:
    return f"{estimate.low:.0%} .. {estimate.high:.0%}"


def _cell(form: str) -> Any:
    """Return the format of an estimate: the number, and its interval below."""

    def text(estimate: Estimate) -> str:
        value = "noise" if isnan(estimate.value) else f"{estimate.value:{form}}"
        return value if isnan(estimate.low) else f"{value}\n{estimate.low:{form}}..{estimate.high:{form}}"

    return text


def _plain(form: str) -> Any:
    return lambda value: f"{value:{form}}"


SIZE_COLUMNS = (
    Column("horizon_s", "within\n[s]", _plain(".0f")),
    Column("own", "own", _cell(".1f")),
    Column("near", "neighbours", _cell(".1f")),
    Column("others", "all others", _cell(".1f")),
    Column("noise_own", "chance\nown", _plain(".1f")),
    Column("noise_near", "chance\nneighb.", _plain(".1f")),
    Column("noise_others", "chance\nothers", _plain(".1f")),
)
RATIO_COLUMNS = (
    Column("horizon_s", "within\n[s]", _plain(".0f")),
    Column("share", "others'\nshare", _cell(".2f")),
    Column("correlation", "correl.\nown, others", _cell(".2f")),
    Column("per_own", "others\nper own", _cell(".2f")),
    Column("cosine_own", "cosine\nown, team", _cell(".2f")),
    Column("cosine_near", "cosine +\nneighbours", _cell(".2f")),
)


def tables(branches: Branches) -> list[Table]:
    """Return the tables, none wider than 80 characters."""
    rows = [vars(branch_effects.effects(branches, horizon)) for horizon in horizons(branches)]
    forced, (cases, _, count, _, _) = (~np.isnan(branches.change[:, :, 0, 0, 0])).sum(), branches.change.shape
    size = f"{len(branches.seed)} states, {cases} forced signals, {forced} phases, {count} continuations"
    result = [
        terminal_table(f"effect of a phase [veh s], sd over phases; {size}", SIZE_COLUMNS, rows),
        terminal_table("effect on others beside the own effect", RATIO_COLUMNS, rows),
        _reach_table(branches),
        _occupancy_table(branches),
    ]
    chance = bool((branch_effects.probabilities(branches).max(axis=1) < 1).any())
    result += [_played_table(branches)] if chance else []
    if branches.has_estimates:
        result += [_score_table(branches, played) for played in (False, True)[: 1 + chance]]
    return [table for table in result if table.rows]


def _played_table(branches: Branches) -> Table:
    rows = [vars(branch_effects.effects(branches, horizon, played=True)) for horizon in horizons(branches)]
    shown = ("horizon_s", "own", "others", "share", "cosine_own")
    columns = [column for column in (*SIZE_COLUMNS, *RATIO_COLUMNS[1:]) if column.key in shown]
    return terminal_table("the same of the phases as the policy plays them, by their probabilities [veh s]", columns, rows)


def _reach_table(branches: Branches) -> Table:
    edges = [0, *horizons(branches)]
    names = ("own", "1 hop", "2 hops", "farther")
    columns = [Column("stretch", "after [s]"), *(Column(name, name, _cell(".1f")) for name in names)]
    seconds = [round(edge * branches.header.decision_s) for edge in edges]
    rows = [
        {"stretch": f"{begin} .. {end}"} | dict(zip(names, row, strict=True))
        for begin, end, row in zip(seconds, seconds[1:], branch_effects.reach(branches, edges), strict=False)
    ]
    return terminal_table("how far and how late [veh s], sd over phases", columns, rows)


def _occupancy_table(branches: Branches) -> Table:
    horizon = min(round(VERDICT_S / branches.header.decision_s), branches.change.shape[3])
    median, full = branch_effects.halves(branches)
    rows: list[dict[str, Any]] = []
    for name, cases in ((f"below {median:.0%}", ~full), (f"above {median:.0%}", full)):
        if len(set(branches.place[cases].tolist())) > 1:
            rows.append({"half": name} | vars(branch_effects.effects(branches, horizon, cases)))
    columns = [Column("half", "occupancy"), *RATIO_COLUMNS[1:]]
    within_s = horizon * branches.header.decision_s
    return terminal_table(f"by the occupancy of the fed lanes, within {within_s:.0f} s", columns, rows)


SCORE_COLUMNS = (
    Column("head", "estimate"),
    Column("horizon_s", "within\n[s]", _plain(".0f")),
    Column("slope", "slope", _cell(".2f")),
    Column("sign", "same sign", _cell(".0%")),
    Column("explained", "explained\nvariance", _cell(".2f")),
)


def _score_table(branches: Branches, played: bool) -> Table:
    rows = [vars(score) for horizon in horizons(branches) for score in branch_scores.scores(branches, horizon, played)]
    rows.sort(key=lambda row: list(branch_scores.HEADS).index(row["head"]))
    title = "the same of the phases as the policy plays them" if played else "the critic's estimates; own is the instrument check"
    return terminal_table(title, SCORE_COLUMNS, rows)


def draw(path: Path, branches: Branches) -> None:
    """Draw the effect by lag on the own, the neighbours' and farther rewards, and the cosines with the team by horizon."""
    header, longest = branches.header, branches.change.shape[3]
    step = max(1, round(STRETCH_S / header.decision_s))
    edges = list(range(0, longest + 1, step))
    figure = new_figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    middle = (np.array(edges[:-1]) + step / 2) * header.decision_s
    columns = list(zip(*branch_effects.reach(branches, edges), strict=True))
    for i, (name, column) in enumerate(zip(("own", "1 hop", "2 hops", "farther"), columns, strict=True)):
        _line(left, middle, column, f"C{i}", name)
    left.set_xlabel("time since the forced phase [s]")
    left.set_ylabel(f"sd over phases of the change in {step * header.decision_s:.0f} s [veh s]")
    ends = edges[1:]
    effects = [branch_effects.effects(branches, end) for end in ends]
    seconds = np.array(ends) * header.decision_s
    _line(right, seconds, [of.cosine_own for of in effects], "C0", "own, team")
    _line(right, seconds, [of.cosine_near for of in effects], "C1", "own + neighbours, team")
    _line(right, seconds, [of.share for of in effects], "0.4", "others in the variance")
    right.set_ylim(-0.2, 1.1)
    right.set_xlabel("horizon [s]")
    right.set_ylabel("cosine; share")
    for axis in (left, right):
        axis.axhline(0, color="0.4", linewidth=0.8)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(f"{header.network}, {header.policy}: effect of a phase, {len(branches.seed)} states")
    figure.savefig(path, dpi=110)


def _line(axis: Any, x: np.ndarray, estimates: Sequence[Estimate], colour: str, name: str) -> None:
    """Draw estimates as a line, with their intervals as a shade."""
    axis.plot(x, [estimate.value for estimate in estimates], color=colour, marker=".", label=name)
    low, high = ([getattr(estimate, end) for estimate in estimates] for end in ("low", "high"))
    axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)

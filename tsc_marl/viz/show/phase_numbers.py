"""Numbers of all phases at each decision, with their meaning: what a policy decides by, and what its critic says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsc_marl.rollout.policies import ControllerDriver, TrainedDriver
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.viz.phase_values import PolicyRunner

WHOSE = {"own": "own", "team": "team's"}


@dataclass(frozen=True)
class NumberMeaning:
    """Meaning of a number that each phase of a signal has."""

    key: str
    """`decides` for what the phase is chosen by, else `own` or `others`, as in `Algorithm.value_estimates`."""
    title: str
    unit: str


@dataclass(frozen=True)
class DecisionRule:
    """How a policy chooses, in words."""

    numbers: tuple[NumberMeaning, ...]
    """What it shows of each phase."""
    exception: str = ""
    """When the legal phase with the largest deciding number is not chosen."""
    by_program: bool = False
    """Whether signal programs choose, so that the number is the green of the program."""


class PhaseNumbers:
    """Collects the numbers of all phases of an episode.

    Attributes:
        rule: how the policy chooses.

    Args:
        env: with a running episode.
        runner: chooses in it.
    """

    def __init__(self, env: TrafficEnv, runner: PolicyRunner) -> None:
        self._env, self._runner = env, runner
        self._rows: list[dict[str, np.ndarray]] = []
        if env.episode.sumo_controlled:
            self._green_s, longest = program_greens_s(env)
            title = "longest green" if longest else "planned green"
            self.rule = DecisionRule((NumberMeaning("decides", title, "s"),), by_program=True)
        elif isinstance(runner.driver, ControllerDriver):
            controller = runner.driver.controller
            title, _, unit = controller.number.rstrip("]").partition(" [")
            numbers = (NumberMeaning("decides", title, unit),) if title else ()
            self.rule = DecisionRule(numbers, controller.exception)
        else:
            self.rule = DecisionRule(_of_algorithm(runner.driver, env.config.reward))

    def add(self) -> None:
        """Take the numbers of the decision that the runner has just made."""
        estimates, driver = self._runner.estimates, self._runner.driver
        taken = dict(estimates) | ({"decides": estimates["probs"]} if "probs" in estimates else {})
        if self.rule.by_program:
            taken["decides"] = self._green_s
        elif isinstance(driver, ControllerDriver):
            taken["decides"] = padded(driver.controller.phase_numbers, self._env.avail.shape)
        self._rows.append({number.key: taken[number.key] for number in self.rule.numbers})

    @property
    def latest(self) -> dict[str, np.ndarray]:
        """The numbers [N, A] of the last decision by key."""
        return self._rows[-1]

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the numbers [T, N, A] by key."""
        return {number.key: np.stack([row[number.key] for row in self._rows]) for number in self.rule.numbers}


def padded(numbers: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers per signal [P] as one array [N, A], 0 for phases that a signal does not have."""
    rows = np.zeros(shape)
    for row, of_signal in zip(rows, numbers, strict=True):
        row[: len(of_signal)] = of_signal
    return rows


def _of_algorithm(driver: TrainedDriver, reward: str) -> tuple[NumberMeaning, ...]:
    scope, estimates = driver.algorithm.value_scope, driver.value_estimates()
    unit = "veh·s" if reward == "delay" else reward
    what = "delay" if reward == "delay" else "reward"
    own = NumberMeaning("own", "utility", "") if scope == "utility" else NumberMeaning("own", f"{WHOSE[scope]} {what}", unit)
    meanings: Mapping[str, NumberMeaning] = {
        "probs": NumberMeaning("decides", "probability", "%"),
        "own": own,
        "others": NumberMeaning("others", f"{what} of the neighbours", unit),
    }
    return tuple(meaning for name, meaning in meanings.items() if name in estimates)


def program_greens_s(env: TrafficEnv) -> tuple[np.ndarray, bool]:
    """Return the green [N, A] in seconds that SUMO's running programs give each phase, and whether it is the longest.

    A phase that a program does not have has 0. A program with detectors has a longest green, others a planned one.
    """
    lights: Any = env.engine.api.trafficlight
    greens, longest = np.zeros(env.avail.shape), False
    for row, signal in zip(greens, env.net.signals, strict=True):
        running = lights.getProgram(signal.name)
        logic = next(logic for logic in lights.getAllProgramLogics(signal.name) if logic.programID == running)
        longest |= logic.type != 0
        for step in logic.phases:
            if step.state in signal.phases:
                row[signal.phases.index(step.state)] += step.maxDur if logic.type else step.duration
    return greens, longest

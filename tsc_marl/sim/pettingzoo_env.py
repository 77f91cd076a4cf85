"""A PettingZoo view of the simulation. Every environment runs its SUMO in a process of its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from tsc_marl.errors import UserError
from tsc_marl.sim import observations, scenario
from tsc_marl.sim.env_process import EnvProcess, EnvSpec
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_timing import Timing

MAX_SEED = 2**31 - 1


class ParallelTrafficEnv(ParallelEnv[str, np.ndarray, Any]):
    """`TrafficEnv` for libraries that use PettingZoo; an agent is a signal, by its name.

    `infos[agent]` holds `action_mask`, int8, one number per phase of that signal. After a step it also holds `executed`, the
    phase in effect where the requested one was not legal. The window's end truncates; nothing terminates.
    A copy or a pickle of an environment is a new one, with a simulation of its own.

    Args:
        network: a name, a folder with a scenario.yaml, or a `.sumocfg` file.
        timing: signal timing; None for sumo-rl's.
        config: observation, reward and detection distance; None for the defaults.

    Raises:
        UserError: when the network, its files or the configuration cannot be used.
    """

    metadata = {"name": "tsc_marl_v0", "render_modes": []}  # noqa: RUF012 (PettingZoo's own type)
    render_mode = None

    def __init__(self, network: str, timing: Timing | None = None, config: SimConfig | None = None) -> None:
        self._start(EnvSpec(scenario.load(network), timing or Timing(), config or SimConfig()))

    def _start(self, spec: EnvSpec) -> None:
        self._spec, self._child = spec, EnvProcess(spec)
        sizes, low = self._child.sizes, observation_low(spec.config)
        self.possible_agents = list(sizes.names)
        self.agents: list[str] = []
        self._observation_spaces = {name: Box(low, np.inf, (sizes.obs_dim,), np.float32) for name in sizes.names}
        self._action_spaces = {name: Discrete(n) for name, n in zip(sizes.names, sizes.n_phases, strict=True)}
        self.state_space = Box(low, np.inf, (sizes.state_dim,), np.float32)
        self._state = np.zeros(sizes.state_dim, np.float32)
        self._rng: np.random.Generator | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {describe(self._spec)}, {len(self.possible_agents)} signals>"

    __str__ = __repr__

    def __getstate__(self) -> EnvSpec:
        return self._spec

    def __setstate__(self, spec: EnvSpec) -> None:
        self._start(spec)

    def observation_space(self, agent: str) -> Box:
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        return self._action_spaces[agent]

    @property
    def pid(self) -> int:
        """Number of the process that simulates."""
        return self._child.pid

    def state(self) -> np.ndarray:
        """Return [S] float32: the observations of all signals without padding, and the elapsed share of the window."""
        return self._state

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
        """Start an episode. The seed also decides the SUMO seeds of later episodes that are reset without one."""
        if seed is not None or self._rng is None:
            self._rng, _ = seeding.np_random(seed)
        obs, avail, self._state = self._child.ask("reset", int(self._rng.integers(MAX_SEED)))
        self.agents = list(self.possible_agents)
        return self._by_agent(obs), self._infos(avail)

    def step(self, actions: Mapping[str, int | np.integer]) -> tuple[dict, dict, dict, dict, dict]:
        """Request a phase at every signal and simulate until the next decision.

        Raises:
            UserError: when a signal has no action, or a phase that it does not have.
        """
        if not self.agents:
            return {}, {}, {}, {}, {}
        for agent in self.agents:
            check_action(agent, self._action_spaces[agent], actions.get(agent))
        chosen = np.array([actions[agent] for agent in self.agents])
        obs, avail, self._state, reward, executed, ended = self._child.ask("step", chosen)
        live, infos = self.agents, self._infos(avail)
        for agent, phase in zip(live, executed.tolist(), strict=True):
            infos[agent]["executed"] = phase
        self.agents = [] if ended else live
        rewards = dict(zip(live, reward.tolist(), strict=True))
        return self._by_agent(obs), rewards, dict.fromkeys(live, False), dict.fromkeys(live, bool(ended)), infos

    def close(self) -> None:
        """End the simulation and its process."""
        self.agents = []
        self._child.close()

    def _by_agent(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.possible_agents, rows, strict=True))

    def _infos(self, avail: np.ndarray) -> dict[str, dict[str, Any]]:
        masks = self._by_agent(avail.astype(np.int8))
        return {agent: {"action_mask": mask[: self._action_spaces[agent].n]} for agent, mask in masks.items()}


def observation_low(config: SimConfig) -> float:
    """Return the least value of an observation; one by import path may be negative."""
    return -np.inf if ":" in config.observation else observations.find(config.observation).low


def describe(spec: EnvSpec) -> str:
    """Return network, window, decisions, observation and reward as text."""
    window = f"window {spec.scenario.begin_s} .. {spec.scenario.end_s} s, a decision every {spec.timing.decision_s} s"
    return f"{spec.scenario.name}: {window}, observation {spec.config.observation}, reward {spec.config.reward}"


def check_action(signal: str, space: Discrete, action: int | np.integer | None) -> None:
    """Refuse an action that is missing, or no phase of the signal.

    Raises:
        UserError: with the signal, its phases and the action.
    """
    if action is None or not space.contains(action):
        got = "none" if action is None else repr(action)
        raise UserError(f"signal {signal}: expected a phase from 0 to {space.n - 1}; got {got}")

"""A PettingZoo view of the simulation. Every environment runs its SUMO in a process of its own: libsumo has only one."""

import contextlib
import multiprocessing
import signal
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv

from tsc_marl.errors import UserError
from tsc_marl.sim import scenario
from tsc_marl.sim.env import SimConfig, TrafficEnv
from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_timing import Timing

MAX_SEED = 2**31 - 1


class ParallelTrafficEnv(ParallelEnv[str, np.ndarray, Any]):
    """`TrafficEnv` for libraries that speak PettingZoo; an agent is a signal, by its name.

    `infos[agent]` holds `action_mask`, int8, one number per phase of that signal, and after a step `executed`, the phase
    that the signal really went to where the action was not legal. The window's end truncates; nothing terminates.
    The process is spawned, so a script that makes an environment needs the guard `if __name__ == "__main__":`.

    Args:
        network: name of a folder in `networks/`.
        timing: signal timing; None for sumo-rl's.
        config: what the agents see and are paid for; None for the defaults.

    Raises:
        UserError: when the network, its files or the configuration cannot be used.
    """

    metadata = {"name": "tsc_marl_v0", "render_modes": []}  # noqa: RUF012 (PettingZoo's own type)
    render_mode = None

    def __init__(self, network: str, timing: Timing | None = None, config: SimConfig | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, scenario.load(network), timing or Timing(), config or SimConfig())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()  # only the child holds it, so that each side notices when the other is gone
        names, n_phases, obs_size, state_size = self._receive()
        low = -np.inf if config and ":" in config.observation else 0.0
        self.possible_agents = list(names)
        self.agents: list[str] = []
        self._seen = {name: Box(low, np.inf, (obs_size,), np.float32) for name in names}
        self._phases = {name: Discrete(n) for name, n in zip(names, n_phases, strict=True)}
        self.state_space = Box(low, np.inf, (state_size,), np.float32)
        self._state = np.zeros(state_size, np.float32)
        self._rng: np.random.Generator | None = None

    def observation_space(self, agent: str) -> Box:
        return self._seen[agent]

    def action_space(self, agent: str) -> Discrete:
        return self._phases[agent]

    def state(self) -> np.ndarray:
        """Return [S] float32, what all signals see together."""
        return self._state

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
        """Start an episode. The seed decides SUMO's of this episode and of those after it that give none."""
        if seed is not None or self._rng is None:
            self._rng, _ = seeding.np_random(seed)
        obs, avail, self._state = self._ask("reset", int(self._rng.integers(MAX_SEED)))
        self.agents = list(self.possible_agents)
        return self._by_agent(obs), self._infos(avail)

    def step(self, actions: Mapping[str, int | np.integer]) -> tuple[dict, dict, dict, dict, dict]:
        """Ask for a phase at every signal and simulate until the next decision.

        Raises:
            UserError: when a signal is left out, or asked for a phase that it does not have.
        """
        if not self.agents:
            return {}, {}, {}, {}, {}
        for agent in self.agents:
            if agent not in actions or not self._phases[agent].contains(actions[agent]):
                given = f"got {actions[agent]!r}" if agent in actions else "got none"
                raise UserError(f"signal {agent}: expected a phase from 0 to {self._phases[agent].n - 1}; {given}")
        chosen = np.array([actions[agent] for agent in self.agents])
        obs, avail, self._state, reward, executed, ended = self._ask("step", chosen)
        live, infos = self.agents, self._infos(avail)
        for agent, phase in zip(live, executed.tolist(), strict=True):
            infos[agent]["executed"] = phase
        self.agents = [] if ended else live
        rewards = dict(zip(live, reward.tolist(), strict=True))
        return self._by_agent(obs), rewards, dict.fromkeys(live, False), dict.fromkeys(live, bool(ended)), infos

    def close(self) -> None:
        """End the simulation and its process."""
        self.agents = []
        with contextlib.suppress(OSError):
            self._pipe.send(("close", None))
        self._pipe.close()
        self._process.join()

    def _by_agent(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.possible_agents, rows, strict=True))

    def _infos(self, avail: np.ndarray) -> dict[str, dict[str, Any]]:
        masks = self._by_agent(avail.astype(np.int8))
        return {agent: {"action_mask": mask[: self._phases[agent].n]} for agent, mask in masks.items()}

    def _ask(self, verb: str, argument: Any) -> Any:
        try:
            self._pipe.send((verb, argument))
        except OSError:
            raise RuntimeError(f"{verb}: the simulation is closed; make a new environment") from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RuntimeError(f"the simulation's process ended with exit code {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            self._process.join()
            raise answer
        return answer


def _serve(pipe: Connection, scene: Scenario, timing: Timing, config: SimConfig) -> None:
    """Run the environment in the child until the parent closes or is gone; an error is the last answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    try:
        with contextlib.closing(TrafficEnv(scene, timing, config)) as env:
            _answer(pipe, env)
    except (EOFError, ConnectionError):
        pass
    except Exception as error:
        told = error if isinstance(error, UserError) else RuntimeError(f"the simulation failed\n{traceback.format_exc()}")
        pipe.send(told)


def _answer(pipe: Connection, env: TrafficEnv) -> None:
    env.reset(0)  # the size of a foreign observation is known only from the running simulation
    pipe.send((env.names, env.n_phases, env.obs.shape[1], len(env.state)))
    while (message := pipe.recv())[0] != "close":
        if message[0] == "reset":
            env.reset(message[1])
            pipe.send((env.obs, env.avail, env.state))
        else:
            reward, ended = env.step(message[1])
            pipe.send((env.obs, env.avail, env.state, reward, env.executed, ended))

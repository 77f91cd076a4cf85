"""A Gymnasium view of one signal, for libraries with a single agent; a controller drives the other signals."""

from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box, Discrete

from tsc_marl.errors import UserError, unknown
from tsc_marl.sim.env_process import UNCONTROLLED, EnvProcess, EnvSpec
from tsc_marl.sim.pettingzoo_env import MAX_SEED, check_action, describe, observation_low


class SingleSignalEnv(Env[np.ndarray, np.integer]):
    """One signal of a network as a Gymnasium environment.

    `info["action_mask"]` is int8, one number per phase: 1 for each phase that may be requested now. After a step
    `info["executed"]` is the phase in effect, where the requested one was not legal. The reward is the signal's own.
    The window's end truncates; nothing terminates.

    Args:
        spec: what to simulate, with the controller of the other signals.
        signal: name of the signal; None for the network's only one.

    Raises:
        UserError: when the signal does not exist, or the network cannot be used.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own type)

    def __init__(self, spec: EnvSpec, signal: str | None = None) -> None:
        self._spec, self._child = spec, EnvProcess(spec)
        sizes = self._child.sizes
        try:
            self.signal = _find_signal(spec.scenario.name, sizes.names, signal)
        except UserError:
            self._child.close()
            raise
        self._index = sizes.names.index(self.signal)
        self.observation_space = Box(observation_low(spec.config), np.inf, (sizes.obs_dim,), np.float32)
        self._phases = Discrete(sizes.n_phases[self._index])
        self.action_space = self._phases
        self._actions = np.full(len(sizes.names), UNCONTROLLED)
        self._mask = np.zeros(sizes.n_phases[self._index], np.int8)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} signal {self.signal} of {describe(self._spec)}>"

    __str__ = __repr__

    def __getstate__(self) -> tuple[EnvSpec, str]:
        return self._spec, self.signal

    def __setstate__(self, state: tuple[EnvSpec, str]) -> None:
        self.__init__(*state)

    def action_masks(self) -> np.ndarray:
        """Return the mask of the last observation as bool, as libraries with masked actions ask for it."""
        return self._mask.astype(bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode. The seed also decides the SUMO seeds of later episodes that are reset without one."""
        super().reset(seed=seed)
        obs, avail, _ = self._child.ask("reset", int(self.np_random.integers(MAX_SEED)))
        return obs[self._index], self._info(avail)

    def step(self, action: np.integer | int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Request a phase and simulate until the next decision.

        Raises:
            UserError: for a phase that the signal does not have.
        """
        phase = action.item() if isinstance(action, np.ndarray) else action
        check_action(self.signal, self._phases, phase)
        self._actions[self._index] = phase
        obs, avail, _, reward, executed, ended = self._child.ask("step", self._actions)
        info = self._info(avail) | {"executed": int(executed[self._index])}
        return obs[self._index], float(reward[self._index]), False, bool(ended), info

    def close(self) -> None:
        """End the simulation and its process."""
        self._child.close()

    def _info(self, avail: np.ndarray) -> dict[str, Any]:
        self._mask = avail[self._index, : self._phases.n].astype(np.int8)
        return {"action_mask": self._mask}


def _find_signal(network: str, names: tuple[str, ...], signal: str | None) -> str:
    if signal is None and len(names) > 1:
        raise UserError(f"{network} has {len(names)} signals; give one of them as signal: {', '.join(names)}")
    if signal is not None and signal not in names:
        raise unknown("signal", signal, names)
    return signal if signal is not None else next(iter(names))

"""A legal phase at random at every decision: the floor of every comparison. Information used: none."""

import numpy as np

from tsc_marl.controllers import Controller
from tsc_marl.sim.signal_view import SignalView


class Random(Controller):
    """Uniform over the legal phases."""

    def reset(self, seed: int, view: SignalView) -> None:
        """Start an episode with its own random numbers."""
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Draw other random numbers from now on."""
        self._rng = np.random.default_rng(seed)

    def act(self, view: SignalView) -> np.ndarray:
        """Return [N] int."""
        return (self._rng.random(view.legal.shape) * view.legal).argmax(1)

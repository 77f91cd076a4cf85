"""A legal phase at random at every decision: the floor of every comparison. Information used: none."""

import numpy as np

from tsc_marl.controllers import Controller


class Random(Controller):
    """Uniform over the legal phases."""

    def reset(self, seed: int) -> None:
        """Start an episode with its own random numbers."""
        self._rng = np.random.default_rng(seed)

    def act(self) -> np.ndarray:
        """Return [N] int."""
        return (self._rng.random(self.env.avail.shape) * self.env.avail).argmax(1)

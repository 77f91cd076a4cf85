"""Classical controllers; one file is one controller and the file's name is its name on the command line."""

import importlib
import pkgutil

import numpy as np

from tsc_marl.errors import unknown
from tsc_marl.sim.env import TrafficEnv


class Controller:
    """Chooses phases from what it may read of the environment, as a trained policy does."""

    native = False
    """True: the network's own signal programs run, and `act` is not asked."""

    def __init__(self, env: TrafficEnv) -> None:
        self.env = env

    def reset(self, seed: int) -> None:
        """Start an episode, after the environment's own reset."""

    def act(self) -> np.ndarray:
        """Return the phase to ask for at each signal, [N] int."""
        return np.zeros(len(self.env.names), dtype=int)


def available() -> list[str]:
    """Return the names of all controllers."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Controller]:
    """Return the class of a controller.

    Raises:
        UserError: for a name without a file.
    """
    if name not in available():
        raise unknown("controller", name, available())
    module = importlib.import_module(f"{__name__}.{name}")
    own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    return next(c for c in own if issubclass(c, Controller))

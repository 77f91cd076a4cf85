"""One file is one algorithm; the file's name is the algorithm's name on the command line.

`<algorithm>-<variant>` is the algorithm with other settings, those of configs/algos/<algorithm>-<variant>.yaml.
"""

import importlib
import pkgutil

from tsc_marl.errors import unknown
from tsc_marl.types import Algorithm


def available() -> list[str]:
    """Return the names of all algorithms."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "base")


def find(name: str) -> type[Algorithm]:
    """Return the class of an algorithm, or of a variant's: the subclass of Algorithm that its file defines.

    Raises:
        UserError: for a name without a file.
    """
    algorithm = name.partition("-")[0]
    if algorithm not in available():
        raise unknown("algorithm", name, available())
    module = importlib.import_module(f"{__name__}.{algorithm}")
    own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    return next(c for c in own if issubclass(c, Algorithm))

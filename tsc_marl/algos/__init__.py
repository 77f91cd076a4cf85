"""One file is one algorithm; the file's name is the algorithm's name on the command line.

`<algorithm>-<variant>` is the algorithm with other settings, those of configs/algos/<algorithm>-<variant>.yaml.
"""

import sys

from tsc_marl import plugins
from tsc_marl.types import Algorithm


def available() -> list[str]:
    """Return the names of all algorithms."""
    return plugins.available(sys.modules[__name__])


def find(name: str) -> type[Algorithm]:
    """Return the class of an algorithm: a file of this folder, one of its variants, or an import path `package.module:Name`.

    Raises:
        UserError: for a name without a class.
    """
    module = name if ":" in name else name.partition("-")[0]
    return plugins.find(sys.modules[__name__], module, Algorithm, "algorithm")

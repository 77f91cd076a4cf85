"""New random numbers for the drivers of a simulation that runs.

Neither libsumo nor TraCI has a call for that, so this calls SUMO's own function in libsumo's library.
"""

import ctypes
from typing import Any

from tsc_marl.errors import UserError

LANES = "_ZN6MSLane6myRNGsE"
"""`MSLane::myRNGs`, a vector: one generator for a group of lanes. The drivers there dawdle by it."""
OTHERS = ("_ZN10RandHelper23myRandomNumberGeneratorE", "_ZN16SUMORouteHandler12myParsingRNGE")
"""The general generator, and that of the drivers whom SUMO reads from the route files later."""
INIT = "_ZN10RandHelper8initRandEP7SumoRNGbi"
"""`RandHelper::initRand(generator, random, seed)`."""


def reseed(seed: int) -> None:
    """Seed the generators of the running simulation anew: they take `seed` and the numbers after it, some 66.

    Vehicles and lights stay as they are. Departures drawn by chance, as of a flow with a probability, stay as they are too.

    Raises:
        UserError: when this libsumo has other generators.
    """
    from tsc_marl.sim._libsumo import libsumo

    api: Any = libsumo  # its compiled part has no stubs
    library = ctypes.CDLL(api.libsumo._libsumo.__file__)
    try:
        init = getattr(library, INIT)
        begin, end, _ = (ctypes.c_size_t * 3).in_dll(library, LANES)
        others = [ctypes.addressof(ctypes.c_char.in_dll(library, name)) for name in OTHERS]
    except (AttributeError, ValueError) as error:
        raise UserError(f"this libsumo cannot be given new random numbers ({error}); install libsumo==1.28.0") from None
    init.argtypes, init.restype = (ctypes.c_size_t, ctypes.c_bool, ctypes.c_int), None
    groups = int(api.simulation.getOption("thread-rngs"))
    lanes = range(begin, end, (end - begin) // groups)
    for number, generator in enumerate([*lanes, *others]):
        init(generator, False, seed + number)

"""Which phases of a signal's program an agent chooses among: so that every link that the program serves is served."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tsc_marl.sim.signal_timing import GREEN

CHANGE = frozenset("yu")
"""Yellow and red-yellow."""
SHORT_S = 3.0
"""A step no longer than this is a moment of a change rather than a green."""


@dataclass(frozen=True)
class GreenPhases:
    """The phases of a signal, and what a user should know of them."""

    phases: tuple[str, ...]
    """SUMO state strings, in program order; fewer than two where there is no choice."""
    notes: tuple[str, ...] = ()


def green_phases(name: str, steps: Sequence[tuple[str, float]]) -> GreenPhases:
    """Return the phases that a program offers.

    A phase is a step with a green and neither yellow nor red-yellow: sumo-rl's rule. Equal ones are one phase. A link that is
    green only while others change gets the phase that remains when those are red. A ramp meter, with one green and a
    step in which all is red, gets both.

    Args:
        name: the signal.
        steps: state and duration [s] of each step of its program.
    """
    plain = [state for state, _ in steps if not CHANGE & set(state) and GREEN & set(state)]
    missing = _greens(state for state, _ in steps) - _greens(plain)
    phases, derived = [], []
    for state, _ in steps:
        if state in plain:
            phases.append(state)
        elif missing & _greens([state]):
            derived.append("".join("r" if char in CHANGE else char for char in state))
            missing -= _greens(derived[-1:])
            phases.append(derived[-1])
    unique = tuple(dict.fromkeys(phases))
    notes = []
    for state in derived:
        links = ", ".join(map(str, sorted(_greens([state]) - _greens(plain))))
        notes.append(f"signal {name} gives links {links} green only while others change: phase {state} serves them")
    if repeated := len(phases) - len(unique):
        notes.append(f"signal {name} repeats {repeated} of its {len(phases)} green phases: equal ones are one action")
    short = [state for state, seconds in steps if state in plain and seconds <= SHORT_S]
    if len(unique) == 1 and any(set(state) == {"r"} for state, _ in steps):
        unique = (*unique, "r" * len(unique[0]))
        notes.append(f"signal {name} is a ramp meter: its actions are green and red")
    elif short:
        notes.append(f"signal {name} shows the green {short[0]} for {SHORT_S:.0f} s or less: a phase, or a moment of a change?")
    return GreenPhases(unique, tuple(notes))


def never_served(steps: Sequence[tuple[str, float]], links: Sequence[int]) -> list[int]:
    """Return the links that every step of a program holds at red; none without a step."""
    return [] if not steps else [link for link in links if all(link < len(state) and state[link] in "ryu" for state, _ in steps)]


def _greens(states: Iterable[str]) -> set[int]:
    return {link for state in states for link, char in enumerate(state) if char in GREEN}

"""Which phases of a signal's program an agent chooses among: so that every link that the program serves is served."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from tsc_marl.sim.signal_timing import CHANGE, GREEN

SHORT_S = 3.0
"""A step no longer than this is a moment of a change where one phase beside it or the other serves each of its links."""
STRENGTH = {"G": 2, "g": 1}
"""A protected green serves a link better than one that yields."""


@dataclass(frozen=True)
class GreenPhases:
    """The phases of a signal, and what a user should know of them."""

    phases: tuple[str, ...]
    """SUMO state strings, in program order; fewer than two where there is no choice."""
    notes: tuple[str, ...] = ()


def green_phases(name: str, steps: Sequence[tuple[str, float]], crossings: Collection[int] = ()) -> GreenPhases:
    """Return the phases that a program offers.

    A phase is a step with a green and neither yellow nor red-yellow: sumo-rl's rule. A link that is green only while others
    change gets the phase that remains when those are red. Equal ones are one phase, and moments of a change are none: steps in
    which crossings clear, and those of a staged change. A ramp meter, with one green and a step in which all is red, gets both.

    Args:
        name: the signal.
        steps: state and duration [s] of each step of its program.
        crossings: links that are pedestrian crossings.
    """
    plain = [state for state, _ in steps if not CHANGE & set(state) and GREEN & set(state)]
    missing = _greens(state for state, _ in steps) - _greens(plain)
    lasts_s: dict[str, float] = {}
    derived, shown = [], 0
    for state, seconds in steps:
        if state not in plain and missing & _greens([state]):
            derived.append("".join("r" if char in CHANGE else char for char in state))
            missing -= _greens(derived[-1:])
            state = derived[-1]
        elif state not in plain:
            continue
        shown += 1
        lasts_s[state] = max(seconds, lasts_s.get(state, 0.0))
    notes = []
    for state in derived:
        links = ", ".join(map(str, sorted(_greens([state]) - _greens(plain))))
        notes.append(f"signal {name} gives links {links} green only while others change: phase {state} serves them")
    if repeated := shown - len(lasts_s):
        notes.append(f"signal {name} repeats {repeated} of its {shown} green phases: equal ones are one action")
    lasting = _without_clearing(list(lasts_s), crossings)
    phases = _without_staged({state: lasts_s[state] for state in lasting})
    if staged := len(lasting) - len(phases):
        notes.append(f"signal {name} has {staged} greens that are steps of a change: they are no actions")
    short = [state for state in phases if lasts_s[state] <= SHORT_S]
    if len(phases) == 1 and any(set(state) == {"r"} for state, _ in steps):
        phases = (*phases, "r" * len(phases[0]))
        notes.append(f"signal {name} is a ramp meter: its actions are green and red")
    elif short:
        notes.append(f"signal {name} shows the green {short[0]} for {SHORT_S:.0f} s or less: a phase, or a moment of a change?")
    return GreenPhases(phases, tuple(notes))


def never_served(steps: Sequence[tuple[str, float]], links: Sequence[int]) -> list[int]:
    """Return the links that every step of a program holds at red; none without a step."""
    no_way = CHANGE | {"r"}
    return [link for link in links if steps and all(link < len(state) and state[link] in no_way for state, _ in steps)]


def _without_clearing(states: Sequence[str], crossings: Collection[int]) -> list[str]:
    """Return the states but those that serve the same vehicles as another one and fewer crossings."""
    greens = [_greens([state]) for state in states]
    vehicles = [own - set(crossings) for own in greens]
    n = range(len(states))
    return [states[i] for i in n if not any(vehicles[i] == vehicles[k] and greens[i] < greens[k] for k in n)]


def _without_staged(lasts_s: dict[str, float]) -> tuple[str, ...]:
    """Return the states, given with their durations [s] in program order, but those that the states beside them make needless.

    Of such a step of a change, both phases beside it serve every link as well, which goes on while others change; or the step is
    short, and one of them or the other does.
    """
    kept = list(lasts_s)
    for state in sorted(kept, key=lambda state: lasts_s[state]):
        at, n = kept.index(state), len(kept)
        beside = zip(_strengths(kept[at - 1]), _strengths(kept[(at + 1) % n]), strict=True)
        counts = max if lasts_s[state] <= SHORT_S else min
        if n > 2 and all(own <= counts(pair) for own, pair in zip(_strengths(state), beside, strict=True)):
            kept.remove(state)
    return tuple(kept)


def _strengths(state: str) -> list[int]:
    return [STRENGTH.get(char, 0) for char in state]


def _greens(states: Iterable[str]) -> set[int]:
    return {link for state in states for link, char in enumerate(state) if char in GREEN}

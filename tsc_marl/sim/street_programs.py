"""The signal programs of a network file, as they stand on the street."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

if TYPE_CHECKING:
    import sumolib

BY_THE_CLOCK = "tsc_marl_clock"
"""The programID of a program of the file that runs by the clock instead of by detectors."""


@dataclass(frozen=True)
class StreetProgram:
    """A signal program of the network file that does not run by the clock."""

    signal: str
    kind: str
    """SUMO's type, such as actuated or NEMA."""
    offset_s: str
    phases: tuple[tuple[str, float], ...]
    """State and duration [s] of each."""

    @property
    def has_clock(self) -> bool:
        """Whether its phases make sense one after the other. The rings of NEMA run side by side, and its yellow is no phase."""
        return self.kind != "NEMA"


def started(tls: "sumolib.net.TLS") -> "tuple[str, sumolib.net.TLSProgram | None]":
    """Return the name and the program that SUMO starts: the last one in the file. A rail signal has none."""
    return next(reversed(tls.getPrograms().items()), ("", None))


def steps(program: "sumolib.net.TLSProgram | None") -> list[tuple[str, float]]:
    """Return state and duration [s] of what a program shows one after the other; of NEMA's the phases of all rings together."""
    if program is None:
        return []
    phases = [(phase.state, float(phase.duration)) for phase in program.getPhases()]
    return _concurrent(program) or phases if program.getType() == "NEMA" else phases


def _concurrent(program: "sumolib.net.TLSProgram") -> list[tuple[str, float]]:
    """Return what NEMA's two rings show side by side: each choice of a phase from both on one side of a barrier.

    Empty where the parameters do not say which phases run together.
    """
    by_name = {phase.name: phase for phase in program.getPhases()}
    barriers = [set(_names(program, key)) for key in ("barrierPhases", "barrier2Phases", "coordinatePhases")]
    rings = [[name for name in _names(program, ring) if name in by_name] for ring in ("ring1", "ring2")]
    first, second = (_sides(ring, set().union(*barriers)) for ring in rings)
    sides = list(zip(first, second, strict=False))
    if len(first) != len(second) or any(not any({a[-1], b[-1]} <= barrier for barrier in barriers) for a, b in sides):
        return []
    together = []
    for names in (pair for side in sides for pair in itertools.product(*side)):
        states = zip(*(by_name[name].state for name in names), strict=True)
        seconds = min(float(by_name[name].duration) for name in names)
        together.append(("".join(min(chars, key="Ggsr".find) for chars in states), seconds))
    return together


def _names(program: "sumolib.net.TLSProgram", key: str) -> list[str]:
    """Return the phases in a list among the parameters."""
    return [name.strip() for name in (program.getParam(key) or "").split(",")]


def _sides(ring: Sequence[str], last: set[str]) -> list[list[str]]:
    """Split a ring behind the phases that end at a barrier."""
    sides: list[list[str]] = [[]]
    for name in ring:
        sides[-1].append(name)
        if name in last:
            sides.append([])
    return [side for side in sides if side]


def responsive(net: "sumolib.net.Net", names: Iterable[str]) -> tuple[StreetProgram, ...]:
    """Return the programs of these signals that do not run by the clock."""
    programs = [(name, started(net.getTLS(name))[1]) for name in names]
    return tuple(
        StreetProgram(name, program.getType(), program.getOffset(), tuple((p.state, p.duration) for p in program.getPhases()))
        for name, program in programs
        if program is not None and program.getType() != "static" and program.getPhases()
    )


def by_the_clock(programs: Sequence[StreetProgram]) -> str:
    """Return SUMO's additional file with the same phases and durations as static programs; empty where none has a clock."""
    logics = "".join(_static(program) for program in programs if program.has_clock)
    return f"<additional>\n{logics}</additional>\n" if logics else ""


def _static(program: StreetProgram) -> str:
    rows = [f'    <phase duration="{duration_s}" state="{state}"/>\n' for state, duration_s in program.phases]
    head = f'id={quoteattr(program.signal)} programID="{BY_THE_CLOCK}" type="static" offset="{program.offset_s}"'
    return f"  <tlLogic {head}>\n{''.join(rows)}  </tlLogic>\n"

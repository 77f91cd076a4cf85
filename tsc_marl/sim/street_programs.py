"""The signal programs of a network file, as they stand on the street."""

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

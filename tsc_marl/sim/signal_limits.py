"""Limits of single signals in a scenario.yaml: what a policy may do there beside the timing of all signals."""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tsc_marl.errors import UserError, unknown

ALL = "all"
"""Stands for every signal; a signal's own limits replace these, one by one."""
FREE, FIXED = "free", "fixed"
ORDERS = (FREE, FIXED)
Seconds = int | None


@dataclass(frozen=True)
class SignalLimits:
    """What a policy may do at one signal. None leaves a value to the timing."""

    phases: tuple[int, ...] = ()
    """Numbers of the phases that may be chosen, ascending; empty for all."""
    order: str = FREE
    """`free`, or `fixed`: stay, or go to the next of those phases in program order."""
    min_green_s: Seconds | tuple[Seconds, ...] = None
    """Seconds that a phase lasts at least, of all phases or of each."""
    max_green_s: Seconds | tuple[Seconds, ...] = None
    """Seconds that a phase is shown at most, of all phases or of each."""
    yellow_s: Seconds = None
    all_red_s: Seconds = None
    intergreen: tuple[tuple[Seconds, ...], ...] = ()
    """[P, P] seconds from the end of the green of one phase to the start of another."""

    def allowed(self, n_phases: int) -> tuple[int, ...]:
        """Return the phases that may be chosen."""
        return self.phases or tuple(range(n_phases))

    def onward(self, phase: int, n_phases: int) -> tuple[int, ...]:
        """Return the phases that may follow an allowed one, in program order from it."""
        allowed = self.allowed(n_phases)
        at = allowed.index(phase)
        following = allowed[at + 1 :] + allowed[:at]
        return following[:1] if self.order == FIXED else following

    def texts(self) -> list[str]:
        """Return what is set, a text each."""
        return [f"{name} {value}" for name, value in asdict(self).items() if value != getattr(NO_LIMITS, name)]

    def check_size(self, signal: str, n_phases: int) -> None:
        """Refuse limits of another number of phases than the signal has.

        Raises:
            UserError: then.
        """
        has = f"; its phases are 0 .. {n_phases - 1}"
        if self.phases and self.phases[-1] >= n_phases:
            raise UserError(f"signal {signal}: limits.phases has {self.phases[-1]}{has}")
        for name in ("min_green_s", "max_green_s", "intergreen"):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) not in (0, n_phases):
                what = "rows" if name == "intergreen" else "entries"
                raise UserError(f"signal {signal}: limits.{name} has {len(value)} {what}, one a phase is expected{has}")


NO_LIMITS = SignalLimits()
Limits = tuple[tuple[str, SignalLimits], ...]
"""Limits by the name of a signal, or `all`."""


def each(value: Seconds | tuple[Seconds, ...], n_phases: int, default: float) -> list[Any]:
    """Return a limit of each phase; the default where it has none."""
    values = value if isinstance(value, tuple) else (value,) * n_phases
    return [default if own is None else own for own in values]


def of_signal(limits: Limits, signal: str) -> SignalLimits:
    """Return the limits of a signal."""
    by_name = dict(limits)
    return by_name.get(signal, by_name.get(ALL, NO_LIMITS))


def checked(given: Any, path: Path) -> Limits:
    """Return the limits of a scenario, sorted by name.

    Args:
        given: limits by signal, as YAML reads them.
        path: file of the scenario; files of intergreen times are relative to its folder.

    Raises:
        UserError: for an unknown limit, a value of the wrong kind, or a file that cannot be read.
    """
    if not isinstance(given, Mapping) or not all(isinstance(own, Mapping) for own in given.values()):
        raise UserError(f"{path}: limits must be names of signals, or {ALL}, each with its limits; got {given!r}")
    for name, own in given.items():
        if not isinstance(name, str):
            raise UserError(f"{path}: limits must name signals by texts, numbers in quotes; got {name!r}")
        for key in own:
            if key not in FIELDS:
                raise UserError(f"{path}: limits of {name}: {unknown('limit', str(key), FIELDS)}")
    merged = {name: {**given.get(ALL, {}), **own} for name, own in given.items()}
    return tuple((name, _checked_one(own, f"{path}: limits of {name}", path.parent)) for name, own in sorted(merged.items()))


FIELDS = tuple(field.name for field in fields(SignalLimits))


def _checked_one(given: Mapping[str, Any], where: str, folder: Path) -> SignalLimits:
    values = dict(given)
    if "phases" in given:
        phases = given["phases"]
        if not isinstance(phases, list) or len(phases) < 2 or not all(map(_is_number, phases)) or len(set(phases)) < len(phases):
            raise UserError(f"{where}: phases must be a list of at least two numbers of phases, none twice; got {phases!r}")
        values["phases"] = tuple(sorted(phases))
    if given.get("order", FREE) not in ORDERS:
        raise UserError(f"{where}: order must be one of {', '.join(ORDERS)}; got {given['order']!r}")
    for name, least in (("min_green_s", 1), ("max_green_s", 1), ("yellow_s", 0), ("all_red_s", 0)):
        if name in given:
            values[name] = _checked_seconds(given[name], least, "green" in name, f"{where}: {name}")
    if "intergreen" in given:
        values["intergreen"] = read_intergreen(folder / str(given["intergreen"]), where)
    return SignalLimits(**values)


def _is_number(value: Any, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _checked_seconds(given: Any, least: int, listed: bool, where: str) -> Any:
    """Return whole seconds; or a list of them, one a phase, with None where a phase has no limit."""
    if listed and isinstance(given, list) and given and all(value is None or _is_number(value, least) for value in given):
        return tuple(given)
    if not _is_number(given, least):
        form = ", or a list of them, one a phase" if listed else ""
        raise UserError(f"{where} must be a whole number of seconds from {least} on{form}; got {given!r}")
    return given


def read_intergreen(path: Path, where: str) -> tuple[tuple[Seconds, ...], ...]:
    """Return the [P, P] seconds in a CSV file as `write_intergreen` makes it; None for an empty cell.

    Raises:
        UserError: when there is no such file, or it is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: intergreen file {path} cannot be read ({error}); correct the name or the file") from None
    head, *rows = [row for row in csv.reader(text.splitlines(), delimiter=";" if ";" in text else ",") if row] or [[]]
    labels = [str(phase) for phase in range(len(rows))]
    if not rows or head[1:] != labels or [row[0] for row in rows] != labels or any(len(row) != len(head) for row in rows):
        raise UserError(f"{where}: intergreen file {path} must have a row and a column for each phase, headed 0, 1, 2 and so on")
    for row in rows:
        for column, cell in enumerate(row[1:]):
            if cell.strip() and not cell.strip().isdecimal():
                raise UserError(
                    f"{where}: intergreen file {path} has {cell!r} from phase {row[0]} to phase {column}; "
                    "expected whole seconds, or nothing for the signal's own"
                )
    return tuple(tuple(int(cell) if cell.strip() else None for cell in row[1:]) for row in rows)


def write_intergreen(path: Path, seconds: list[list[int]]) -> None:
    """Write [P, P] seconds as a CSV file: a row for each phase that ends, a column for each that starts."""
    labels = [str(phase) for phase in range(len(seconds))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["from / to", *labels])
        for before, row in enumerate(seconds):
            writer.writerow([labels[before], *("" if after == before else value for after, value in enumerate(row))])

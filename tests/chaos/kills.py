"""Kills of every kind of process at random moments; then the same work again, to the same result."""

import contextlib
import functools
import json
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import trainings
from tests.chaos.campaign import Lazily, Row, Settings, run_side_by_side
from tests.chaos.sandbox import Sandbox, problems, send
from tests.chaos.trainings import ALGORITHMS, NET, Reference

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STOP_S = 60
"""Longest time for a stopped command to save what it has and end."""
YOUNG_S = 0.5
"""Until then Python itself starts, and no handler of ours can be there."""
CHAIN = 3
"""Kills of one training."""
EVALUATE = ["evaluate", *NET, "--policy", "max_pressure", "random", "--baseline", "random", "--eval-seeds", *"12345678"]
EVALUATE += ["--out", "out"]


@dataclass(frozen=True)
class Work:
    """A command that is killed, and begun again."""

    name: str
    line: Callable[[Path], list[str]]
    """Words for a home, also those that go on after a kill."""
    seconds: float
    """How long it takes undisturbed."""
    losses: Callable[[Path], list[str]]
    """What is missing or wrong in a home at the end."""
    template: Path | None = None
    """Home to start from."""
    after: tuple[str, ...] | None = None
    """The next command, where it is not the same one."""


@dataclass(frozen=True)
class Kill:
    target: str
    """Kind of process (`Sandbox.of_kind`)."""
    signals: tuple[signal.Signals, ...]
    moments: tuple[float, ...]
    """As shares of the undisturbed time, each from the start of the command."""


def run(settings: Settings, references: Lazily[Reference]) -> Row:
    """Kill, go on, compare."""
    works = Lazily(functools.partial(_work, settings, references))
    plan = [functools.partial(_trial, settings, works, number, *pair) for number, pair in enumerate(_plan(settings))]
    return run_side_by_side(Row("kills", len(plan)), plan, settings)


def _plan(settings: Settings) -> Iterator[tuple[str, Kill]]:
    """Return the kills in a shuffled order, so that a campaign cut short has tried all kinds."""
    choices = settings.choices("kills")
    kinds = [(name, target, CHAIN) for name in ALGORITHMS for target in ("main", "main", "main", "worker", "forkserver")]
    kinds += [("study", "main", 1)] * 6 + [("study", "child", 1)] * 3 + [("study", "forkserver", 1)] * 2
    kinds += [("evaluate", target, 1) for target in ("main", "main", "main", "worker", "forkserver")]
    kinds += [(name, "main", 1) for name in ("import", "export", "report") for _ in SIGNALS]
    kinds += [("ui", "main", 1)] * 3 + [("ui", "server", 1)]
    choices.shuffle(kinds)
    turn = {kind: choices.randrange(3) for kind in dict.fromkeys(kinds)}
    for kind in kinds[: settings.count(len(kinds))]:
        name, target, number = kind
        signals = tuple(SIGNALS[(turn[kind] + i) % 3] for i in range(number))
        turn[kind] += 1
        yield name, Kill(target, signals, tuple(choices.uniform(0.02, 0.98) for _ in range(number)))


def _trial(settings: Settings, works: Lazily[Work], number: int, name: str, kill: Kill) -> tuple[int, list[str]]:
    work = works[name]
    sandbox = Sandbox(settings.folder / f"k{number}", work.template)
    losses: list[str] = []
    try:
        attack = _stop_again_and_again if kill.target == "main" else _hurt
        killed = attack(sandbox, work, kill, losses)
        finished = attack is _hurt and work.name in ALGORITHMS and not losses
        after = ("compare", *NET) if finished else work.after
        code, text = sandbox.run([*after] if after else work.line(sandbox.home))
        losses += [f"the next command: {problem}" for problem in problems(text, code)]
        if code != 0:
            losses.append(f"the next command ends with {code}")
        losses += [*work.losses(sandbox.home), *sandbox.left_behind()]
    finally:
        sandbox.close(keep=bool(losses))
    label = f"{work.name}, {kill.target} {'/'.join(s.name for s in kill.signals)}"
    return max(1, killed), [f"{label}: {loss}" for loss in dict.fromkeys(losses)]


def _stop_again_and_again(sandbox: Sandbox, work: Work, kill: Kill, losses: list[str]) -> int:
    """Kill a command, go on, kill it again; return the number of kills."""
    killed = 0
    for number, moment in zip(kill.signals, kill.moments, strict=True):
        command = sandbox.start(work.line(sandbox.home))
        if command.wait(moment * work.seconds) is not None:
            break  # it was quicker
        seconds = command.seconds
        send(command.process.pid, number)
        killed += 1
        code = command.wait(STOP_S)
        if code is None:
            losses.append(f"{number.name} does not end it within {STOP_S} s")
            send(command.process.pid, signal.SIGKILL)
        elif seconds > YOUNG_S and code not in ((-number,) if number == signal.SIGKILL else (130, 0)):
            losses.append(f"{number.name} after {_roughly(seconds / work.seconds)}: exit code {code}")
        if seconds > YOUNG_S and "Traceback" in command.text():
            losses.append(f"{number.name}: a traceback: {command.text().strip().splitlines()[-1][:100]}")
        if number != signal.SIGKILL and not sandbox.all_ended():
            losses.append(f"{number.name}: processes are left")
            sandbox.end_processes()
    return killed


def _roughly(share: float) -> str:
    return "a quarter" if share < 0.25 else "a half" if share < 0.5 else "most" if share < 0.9 else "all"


def _hurt(sandbox: Sandbox, work: Work, kill: Kill, losses: list[str]) -> int:
    """Kill processes that a command has started; it must go on by itself. Return the number of kills."""
    command, killed = sandbox.start(work.line(sandbox.home)), 0
    for number, moment in zip(kill.signals, sorted(kill.moments), strict=True):
        if command.wait(max(0.0, moment * work.seconds - command.seconds)) is not None:
            break
        if not command.wait_until(lambda: sandbox.of_kind(kill.target, command)):
            break
        for pid in sandbox.of_kind(kill.target, command)[:1]:
            send(pid, number)
            killed += 1
    code = command.wait(STOP_S) if work.name == "ui" else command.wait()
    if code is None:
        losses.append("the command does not end")
        sandbox.end_processes()
    losses += problems(command.text(), code)
    if kill.target in ("worker", "forkserver") and code not in (0, None):
        losses.append(f"the command does not go on: exit code {code}")
    return killed


def _work(settings: Settings, references: Lazily[Reference], name: str) -> Work:
    """Return what a command does undisturbed; those that read results are measured once."""
    if name in ALGORITHMS or name == "study":
        algorithm = ALGORITHMS[0] if name == "study" else name
        reference = references[algorithm]
        losses = functools.partial(trainings.differences, algorithm=algorithm, expected=reference.outcome)
        if name == "study":
            line = ["study", *trainings.train_line(algorithm)[1:], "--jobs", "1"]
            return Work(name, functools.partial(_constant, line), reference.seconds * 1.6, losses)
        return Work(name, functools.partial(trainings.continue_line, algorithm=name), reference.seconds, losses)
    home = references[ALGORITHMS[0]].home
    if name == "ui":
        return Work("ui", lambda _: ["ui", "--port", str(_free_port())], 12, lambda _: [], home, ("compare", *NET))
    line, result, template = {
        "evaluate": (EVALUATE, _evaluation, home),
        "export": (["export", "--out", "out"], _files, home),
        "report": (["report", *NET, "--out", "out/report.html"], _names, home),
        "import": (["import", "--folder", str(settings.exported)], _imported, None),
    }[name]
    sandbox = Sandbox(settings.folder / f"made_{name}", template)
    code, text = sandbox.run(line)
    if code != 0:
        raise RuntimeError(f"an undisturbed {name} ended with {code}:\n{text}")
    losses = functools.partial(_compare, name, result, result(sandbox.home))
    return Work(name, functools.partial(_constant, line), sandbox.commands[-1].seconds, losses, template)


def _constant(line: list[str], _home: Path) -> list[str]:
    return line


def _evaluation(home: Path) -> Any:
    return json.loads((home.parent / "out" / "cross" / "metrics.json").read_text(encoding="utf-8"))["results"]


def _files(home: Path) -> dict[str, bytes]:
    out = home.parent / "out"
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def _names(home: Path) -> list[str]:
    return [name for name, content in _files(home).items() if content]


def _imported(home: Path) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as store:
        runs = store.execute("select status, count(*) from runs where lifecycle_stage = 'active' group by status").fetchall()
        values = "select count(*) from metrics join runs using (run_uuid) where lifecycle_stage = 'active'"
        return [*runs, *store.execute(values).fetchall()]


def _compare(name: str, result: Callable[[Any], Any], expected: Any, home: Path) -> list[str]:
    try:
        return [] if result(home) == expected else [f"other results of {name}"]
    except (OSError, ValueError, KeyError, sqlite3.Error) as error:
        return [f"no results of {name}: {type(error).__name__}"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

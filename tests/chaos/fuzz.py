"""Command lines that nobody should write: a code, and one line of `error:`."""

import functools
import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from tests.chaos.campaign import Row, Settings
from tests.chaos.forked import Answer, run_forked
from tests.chaos.sandbox import Sandbox, problems
from tsc_marl.cli import options
from tsc_marl.cli.main import VERBS, main
from tsc_marl.config import ExperimentConfig
from tsc_marl.rollout import interrupts
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_timing import Timing

LINES = 2000
LIMIT_S = 6
LIGHT = ("networks", "compare", "report", "export", "import")
"""Verbs that may be played to the end."""
VALUES = (
    "", " ", "-1", "0", "1", "2", "00", "nan", "inf", "-inf", "1e999", "1e-3", "0x10", "1_000", "true", "None", "null", "{}",
    "cross", "./cross", "cross/", "networks/cross", "../cross", "gird4x4", "all", ".", "..", "/dev/null/x", "/proc/nothing/x",
    "mappo", "mapo", "jointq-selfish", "fixed_time", "max_presure", "classical", "delay", "a,b", "a:b", ":", "a:", "os:getcwd",
    "sys:exit", "x" * 5000, "9" * 400, "\N{LATIN SMALL LETTER E WITH ACUTE}", "\U0001f6a6", "\udcff",
    "a b", "%s", "$HOME", "~", "'", '"', "\n", "\t", "[]", "-", "--", "---", "=", "--=", "-q", "-v", "-x", "--help=1",
    "nix.pt", "x.html", "x.sumocfg", "net.xml", "2024-13-45",
)  # fmt: skip
"""None names a place outside the folder of its trial that could be written."""
BAD = (
    ["--bogus", "3"], ["--bogus=3"], ["--no-such-option"], ["--network", "gird4x4"], ["--episodes", "many"], ["--workers", "-3"],
)  # fmt: skip
"""Parts of a line that no verb accepts: most do not know the option, the others not the value."""


def run(settings: Settings, home: Path) -> Row:
    """Run lines in forked children, in a copy of a home that has results: what they begin there stays theirs."""
    choices = settings.choices("fuzz")
    lines = [_line(choices) for _ in range(settings.count(LINES))]
    row = Row("fuzz", len(lines))
    folder = settings.folder / "fuzz"
    os.environ["TSC_MARL_HOME"] = str(Sandbox(settings.folder / "fuzz_home", home).home)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    tasks = (
        (number, functools.partial(_play, line, folder / f"cwd{number}"))
        for number, line in enumerate(lines)
        if settings.takes(number) and time.monotonic() < settings.deadline
    )
    for answer in run_forked(tasks, folder, LIMIT_S, settings.lanes):
        line = lines[answer.number]
        losses = list(_losses(line, answer))
        row.add(answer.number, 1, [f"{_shown(line)}: {loss}" for loss in losses])
        if losses:
            (folder / f"{answer.number}.txt").write_text(answer.out + answer.err, encoding="utf-8")
    return row


def _play(line: list[str], folder: Path) -> int:
    folder.mkdir(parents=True)
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    interrupts.install()  # as a process of its own does
    return main(list(line))


def _losses(line: list[str], answer: Answer) -> Iterator[str]:
    yield from problems(answer.out + answer.err, answer.code)
    refused = any(part == line[i : i + len(part)] for part in BAD for i in range(len(line)))
    if refused and answer.code == 0 and not {"-h", "--help"} & set(line):
        yield "it is accepted"
    if answer.code == 2 and answer.err.count("\n") != 1:
        yield f"{answer.err.count(chr(10))} lines on stderr"


def _line(choices: random.Random) -> list[str]:
    """Return a line; of verbs that simulate, most have a part that must be refused."""
    if choices.random() < 0.05:
        return [_value(choices) for _ in range(choices.randrange(4))]
    verb = choices.choice(list(VERBS))
    words = [verb]
    for _ in range(choices.randrange(5)):
        words.append(f"--{choices.choice(_names(verb))}")
        words += [_value(choices) for _ in range(choices.randrange(3))]
    if verb not in LIGHT and choices.random() < 0.9:
        words += choices.choice(BAD)
    if verb == "import":  # the default folder takes minutes
        words += ["--folder", choices.choice(("nowhere", ".", "", "x" * 300, "nix.json.gz"))]
    if choices.random() < 0.1:
        words.insert(choices.randrange(len(words) + 1), _value(choices))
    return words


def _value(choices: random.Random) -> str:
    return choices.choice(VALUES)


@functools.cache
def _names(verb: str) -> list[str]:
    """Return the options of a verb, nested ones too, and some of others."""
    kind = getattr(options, f"{verb.title().replace('-', '')}Options", ExperimentConfig)
    names = [field.name for field in fields(kind)]
    if kind is ExperimentConfig or verb == "study":
        nested = {"timing": Timing, "sim": SimConfig, "demand": Demand, "eval-demand": Demand}
        names += [f"{group}.{field.name}" for group, inner in nested.items() for field in fields(inner)]
        names += ["algo.lr", "algo.gamma", "algo.hidden", "algo.sharing"]
    return [name.replace("_", "-") for name in names] + ["out", "network", "policy", "run"]


def _shown(line: list[str]) -> str:
    words = (word if len(word) < 30 else f"{word[:10]}... ({len(word)} characters)" for word in line)
    return " ".join(map(ascii, words))

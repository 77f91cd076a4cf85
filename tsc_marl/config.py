"""The settings of a run: frozen dataclasses; YAML files are a command line typed in advance."""

import contextlib
import dataclasses
import io
import itertools
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import tyro
import yaml

from tsc_marl import algos, controllers
from tsc_marl.errors import UserError, unknown
from tsc_marl.paths import CONFIGS
from tsc_marl.rollout.types import Task
from tsc_marl.sim import scenario
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.env import SimConfig
from tsc_marl.sim.signal_timing import Timing

A = TypeVar("A")
Options = TypeVar("Options")

EVAL_SEEDS = tuple(range(1000, 1010))
"""SUMO seeds of an evaluation, unless others are given."""
TRAIN_SEEDS = 1_000_000
"""SUMO seeds of training start here; evaluation seeds lie below, so the two never meet."""


@dataclass(frozen=True)
class RunConfig(Generic[A]):
    """Train on a road network, then evaluate beside the classical controllers."""

    algo: A
    """Settings of the algorithm; they must fit every algorithm of the command."""
    net: str = "grid4x4"
    """Road network: a name (see `python -m tsc_marl networks`), a folder with a scenario.yaml, or a `.sumocfg` file."""
    algos: tuple[str, ...] = ("mappo", "jointq")
    """Algorithms to train, one after the other: files of tsc_marl/algos/, or variants, files of configs/algos/."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds; each algorithm is trained once with each."""
    episodes: int = 100
    """Training episodes for each algorithm and seed."""
    episodes_per_update: int = 2
    """Episodes that play side by side; each gives its part of every batch of learning."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; the default is all cores. Training has work for `episodes_per_update` of them."""
    timing: str = "sumo-rl"
    """Signal timing: a file of configs/timing/; single values: --signal.*."""
    signal: Timing = field(default_factory=Timing)
    sim: SimConfig = field(default_factory=SimConfig)
    demand: Demand = field(default_factory=Demand)
    """In training: another demand in every episode."""
    eval_demand: Demand = field(default_factory=Demand)
    """In the evaluation; the default is the demand of the route files."""
    eval_seeds: tuple[int, ...] = EVAL_SEEDS
    """SUMO seeds of the evaluation, held out from training."""
    baselines: tuple[str, ...] = ("fixed_time", "max_pressure")
    """Classical controllers evaluated on the same seeds."""
    checkpoint_every: int = 5
    """Times `episodes_per_update` episodes between two checkpoints."""
    resume: str | None = None
    """Go on with this run: a folder of runs/."""

    def __post_init__(self) -> None:
        """Refuse what cannot run, before anything starts."""
        object.__setattr__(self, "net", scenario.plain_name(self.net))
        for name in self.algos:
            algos.find(name)
        for name in self.baselines:
            controllers.find(name)
        for name in ("episodes", "episodes_per_update", "workers", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.episodes > TRAIN_SEEDS:
            raise UserError(f"episodes must be at most {TRAIN_SEEDS}, each has a SUMO seed of its own; got {self.episodes}")
        if self.episodes % self.episodes_per_update:
            raise UserError(
                f"episodes {self.episodes} is not a multiple of episodes-per-update {self.episodes_per_update}; change one"
            )
        check_list("algos", self.algos)
        check_list("seeds", self.seeds)
        for seed in self.seeds:
            if not 0 <= seed < 1000:
                raise UserError(f"seeds must lie in 0 .. 999; got {seed}")
        check_eval_seeds(self.eval_seeds)

    @property
    def concurrent_episodes(self) -> int:
        """How many episodes stand still while the algorithm learns from their rollouts."""
        return self.episodes_per_update if getattr(self.algo, "rollout_length", 0) else 1

    def task(self) -> Task:
        """Return where the training episodes play."""
        return Task(self.net, self.signal, self.sim, self.demand)

    def eval_task(self) -> Task:
        """Return where the final policies are measured."""
        return Task(self.net, self.signal, self.sim, self.eval_demand)


def check_list(name: str, values: tuple[Any, ...]) -> None:
    """Refuse an empty list, and entries given twice."""
    if not values or len(set(values)) < len(values):
        raise UserError(f"{name} needs at least one entry and none twice; got {' '.join(map(str, values)) or 'none'}")


def check_eval_seeds(seeds: tuple[int, ...], option: str = "eval-seeds") -> None:
    """Refuse evaluation seeds that training uses."""
    check_list(option, seeds)
    for seed in seeds:
        if not 0 <= seed < TRAIN_SEEDS:
            raise UserError(
                f"{option} must lie in 0 .. {TRAIN_SEEDS - 1}, the seeds from {TRAIN_SEEDS} on are for training; got {seed}"
            )


def train_seed(run_seed: int, episode: int) -> int:
    """Return the SUMO seed of a training episode, a different one for every episode of every run seed."""
    return TRAIN_SEEDS * (run_seed + 1) + episode


def from_yaml(path: Path, prefix: str = "") -> list[str]:
    """Turn a YAML file of settings into the command line that says the same.

    Raises:
        UserError: when it is not YAML, or no settings.
    """
    try:
        raw = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected settings as `name: value`; got {type(raw).__name__}")
    return _flatten(raw, prefix)


def _flatten(raw: dict[str, Any], prefix: str) -> list[str]:
    argv: list[str] = []
    for name, value in raw.items():
        option = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, dict):
            argv += _flatten(value, f"{prefix}{name}.")
        else:
            argv += [f"--{option}", *map(str, value if isinstance(value, list) else [value])]
    return argv


def timings(configs: Path = CONFIGS) -> list[str]:
    """Return the names of the signal timings."""
    return sorted(path.stem for path in (configs / "timing").glob("*.yaml"))


def read_timing(name: str, configs: Path = CONFIGS) -> Timing:
    """Read configs/timing/<name>.yaml.

    Raises:
        UserError: when there is none, or it cannot be.
    """
    if name not in timings(configs):
        raise unknown("timing", name, timings(configs))
    path = configs / "timing" / f"{name}.yaml"
    line = from_yaml(path)
    try:
        return cli(Timing, line, "train")
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def variants(configs: Path = CONFIGS) -> list[str]:
    """Return the names of the algorithms with other settings than their own, `<algorithm>-<variant>`."""
    return sorted(path.stem for path in (configs / "algos").glob("*-*.yaml"))


def algorithms(configs: Path = CONFIGS) -> list[str]:
    """Return every name that an algorithm can be asked for by: those of tsc_marl/algos/, and the variants."""
    return [*algos.available(), *variants(configs)]


def parse(argv: list[str], configs: Path = CONFIGS) -> list[RunConfig[Any]]:
    """Read a command line into one RunConfig per algorithm, in order.

    configs/train.yaml, configs/algos/<algorithm>.yaml, for a variant its own file too, and configs/timing/<timing>.yaml come
    first, so that the command line wins.

    Raises:
        UserError: for values that cannot be; tyro itself ends the program with code 2 for unknown options.
    """
    base = from_yaml(configs / "train.yaml")
    names = _values([*base, *argv], "--algos") or list(RunConfig.algos)
    timing = (_values([*base, *argv], "--timing") or [RunConfig.timing])[-1]
    read_timing(timing, configs)
    runs = []
    for name in names:
        config = algos.find(name).Config
        parts = {configs / "train.yaml": base} | _own(name, configs)
        timed = from_yaml(configs / "timing" / f"{timing}.yaml", "signal.")
        line = [word for part in (*parts.values(), timed, argv) for word in part]
        try:
            runs.append(cli(RunConfig[config], line, f"train --algos {name}"))
        except UserError as error:
            files = [str(path) for path, part in parts.items() if part]
            raise UserError(f"{error} (settings of {' and '.join(files)} count too)" if files else str(error)) from None
    return runs


def _own(name: str, configs: Path) -> dict[Path, list[str]]:
    """Read the settings of an algorithm, and those of a variant on top."""
    if "-" in name and name not in variants(configs):
        raise unknown("algorithm", name, algorithms(configs))
    paths = [configs / "algos" / f"{own}.yaml" for own in dict.fromkeys((name.partition("-")[0], name))]
    return {path: from_yaml(path, "algo.") for path in paths if path.exists()}


def cli(options: Callable[..., Options], argv: Sequence[str], verb: str) -> Options:
    """Read a command line into a dataclass; `--help` prints and ends the program.

    Raises:
        UserError: in one line, for an option that is unknown, missing or of the wrong kind.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(options, args=list(argv), prog=f"python -m tsc_marl {verb}", config=(tyro.conf.FlagConversionOff,))
    except SystemExit as ended:
        if not ended.code:
            raise
        lines = [line.strip(" │") for line in said.getvalue().splitlines()]
        text = " ".join(line for line in lines if line and line[0] not in "╭╰─" and not line.startswith("For full helptext"))
        text = text.split(" Argument helptext:")[0].rstrip(".")
        raise UserError(f"{text}; every option: python -m tsc_marl {verb} --help") from None


def command_line(verb: str, argv: Sequence[str]) -> str:
    """Return the line that a shell takes for a verb with these words."""
    return shlex.join(["python", "-m", "tsc_marl", verb, *argv])


def _values(argv: list[str], option: str) -> list[str]:
    """Return what follows the last occurrence of an option."""
    values: list[str] = []
    for i, word in enumerate(argv):
        if word.split("=")[0] == option:
            values = word.split("=")[1:] or list(itertools.takewhile(lambda value: not value.startswith("--"), argv[i + 1 :]))
    return values


def as_dict(config: RunConfig[Any]) -> dict[str, Any]:
    """Return all settings, flat, as `algo.lr: value`."""
    flat: dict[str, Any] = {}
    for name, value in dataclasses.asdict(config).items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat

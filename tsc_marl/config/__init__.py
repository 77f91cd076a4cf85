"""Settings of a training command and of its trainings: frozen dataclasses. A YAML file stands for the options that it lists."""

import contextlib
import dataclasses
import io
import itertools
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from tsc_marl import algos, controllers
from tsc_marl.bounds import Count, MaybeCount, check, check_list
from tsc_marl.config.words import from_yaml, settings_in, values_of, with_switches, words_of
from tsc_marl.errors import UserError, unknown
from tsc_marl.paths import CONFIGS
from tsc_marl.rollout.jam_start import JamStart
from tsc_marl.rollout.stress import TrainStress
from tsc_marl.rollout.task import MetricNames, Task
from tsc_marl.sim import metrics, observations, scenario
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.seeds import EVAL_SEEDS, TRAIN_SEEDS
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking.policies import SHIPPED
from tsc_marl.tracking.start import Start

A = TypeVar("A")
Options = TypeVar("Options")


SCRIPT = "tsc-marl"
"""Console script of an installed package."""
COMMAND_ONLY = ("algos", "seeds", "resume")
"""Settings of a command that a single training does not have."""
OF_START = ("start_from", "start_digest")
"""Settings of trainings that start from given weights; the others do not have them."""


@dataclass(frozen=True)
class ExperimentConfig:
    """Settings of a command: the settings that its trainings share, and those of each algorithm."""

    network: tuple[str, ...] = ("grid4x4",)
    """Road network: a name (see the verb `networks`), a folder with a scenario.yaml, or a .sumocfg file. One policy learns on
    several: this needs the observation `movements` and shared parameters."""
    algos: tuple[str, ...] = ("mappo", "jointq")
    """Algorithms to train, one after the other: files of tsc_marl/algos/, or variants in configs/algos/."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds, 0 .. 999; each algorithm is trained once with each."""
    episodes: Count = 16
    """Training episodes for each algorithm and seed, on each network."""
    episodes_per_update: Count = 2
    """Episodes that are simulated at the same time; their decisions form one batch."""
    workers: MaybeCount = None
    """Processes that simulate; by default one for each core, or for each slot of the cluster. Training uses at most
    `episodes_per_update` of them."""
    cluster: str | None = None
    """Ray cluster that simulates: `auto` for the one of this machine, `host:port`, or `ray://host:port` from outside."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/; --timing.* changes single values."""
    timing: Timing = field(default_factory=Timing)
    sim: SimConfig = field(default_factory=SimConfig)
    demand: Demand = field(default_factory=Demand)
    """Demand of the training episodes; each can have its own."""
    train_stress: TrainStress = field(default_factory=TrainStress)
    jam_start: JamStart = field(default_factory=JamStart)
    eval_demand: Demand = field(default_factory=Demand)
    """Demand of the evaluation; by default the vehicles of the route files."""
    eval_seeds: tuple[int, ...] = EVAL_SEEDS
    """SUMO seeds of the evaluation, 0 .. 999999; training uses the seeds above. None: no evaluation."""
    baselines: tuple[str, ...] = ("fixed_time", "max_pressure")
    """Classical controllers evaluated on the same seeds, and `pretrained`."""
    plots: bool = False
    """Draw the pictures for traffic engineers of the final policies and the baselines, where there is one network."""
    metrics: MetricNames = ()
    checkpoint_every: Count = 1
    """Iterations between two checkpoints, each of two groups of `episodes_per_update`."""
    resume: str | None = None
    """Continue this run: a folder of runs/."""
    start_from: str | None = None
    """Start from a policy's weights: `pretrained`, an algorithm (its newest run), a run id, a model (`models:/…`), or a file.

    Its settings are the defaults of this training."""
    start_digest: tyro.conf.Suppress[str] = ""
    """First digits of the sha256 of that file."""
    algo: tyro.conf.Suppress[Mapping[str, Any]] = field(default_factory=dict)
    """Settings of each algorithm, by its name in `algos`."""

    def __post_init__(self) -> None:
        """Refuse invalid settings, before anything starts."""
        object.__setattr__(self, "network", tuple(name for given in self.network for name in scenario.plain_names(given)))
        check_list("network", self.network)
        for name in self.algos:
            algos.find(name)
        for name in self.baselines:
            if name != SHIPPED:
                controllers.find(name)
        metrics.check(self.metrics)
        check(self)
        check(self.jam_start, "jam-start.")
        self._check_episodes()
        check_list("algos", self.algos)
        check_list("seeds", self.seeds)
        for seed in self.seeds:
            if not 0 <= seed < 1000:
                raise UserError(f"seeds must lie in 0 .. 999; got {seed}")
        if self.eval_seeds:
            check_eval_seeds(self.eval_seeds)
        if len(self.network) > 1:
            self._check_portable()
        self._check_stress()

    def _check_episodes(self) -> None:
        given = f"{self.episodes} on each of {len(self.network)} networks" if len(self.network) > 1 else self.episodes
        if self.all_episodes > TRAIN_SEEDS:
            raise UserError(f"episodes must be at most {TRAIN_SEEDS}, each has a SUMO seed of its own; got {given}")
        if self.all_episodes % self.episodes_per_update:
            raise UserError(f"episodes {given} is not a multiple of episodes-per-update {self.episodes_per_update}; change one")
        if self.jam_start.share and self.episodes_per_update < 2:
            raise UserError(
                "jam-start.share needs at least 2 episodes-per-update, the first of which starts on empty roads; got 1"
            )

    def _check_stress(self) -> None:
        """Refuse timings of training episodes with another number of decisions."""
        for name, timing in zip(self.train_stress.timing, self.stress_timings, strict=True):
            if timing.decision_s != self.timing.decision_s:
                raise UserError(
                    f"train-stress.timing {name} decides every {timing.decision_s} s, this training every "
                    f"{self.timing.decision_s} s; episodes of a training need as many decisions, so use another timing"
                )

    def _check_portable(self) -> None:
        """Refuse settings with which a policy belongs to one network."""
        several, seen = f"a policy of {len(self.network)} networks", self.sim.observation
        if not observations.find(seen).portable:
            fitting = ", ".join(name for name in observations.available() if observations.find(name).portable)
            raise UserError(f"{several} needs an observation that fits any network (--sim.observation {fitting}); got {seen}")
        for name, algo in self.algo.items():
            sharing = getattr(algo, "sharing", "full")
            if not sharing.startswith("full"):
                raise UserError(f"{several} needs algo.sharing full or full_no_id; {name} has {sharing}")
            if getattr(algo, "popart", False):
                raise UserError(f"{several} has a value normaliser for each, so algo.popart must be False; {name} has True")

    @property
    def network_name(self) -> str:
        """Name under which the store files the trainings: the network's, or the names of several joined."""
        return scenario.joined_name(self.network)

    @property
    def all_episodes(self) -> int:
        """Training episodes of each training, on all networks together."""
        return self.episodes * len(self.network)

    @property
    def runs(self) -> "list[RunConfig[Any]]":
        """The trainings in their order: each algorithm with all seeds before the next algorithm."""
        return [RunConfig(self, name, seed, self.algo[name]) for name in self.algos for seed in self.seeds]

    @property
    def concurrent_episodes(self) -> int:
        """How many episodes are played in turns, rollout by rollout."""
        pauses = any(getattr(algo, "rollout_length", 0) for algo in self.algo.values())
        return self.episodes_per_iteration if pauses else 1

    @property
    def episodes_per_iteration(self) -> int:
        """Episodes between two checkpoints: those of two groups, one of which plays while the algorithm learns from the other."""
        return 2 * self.episodes_per_update

    def tasks(self) -> list[Task]:
        """Return the task of the training episodes on each network."""
        return [Task(name, self.timing, self.sim, self.demand, metrics=self.metrics) for name in self.network]

    @property
    def stress_timings(self) -> list[Timing]:
        """The timings that training episodes draw from."""
        return [read_timing(name) for name in self.train_stress.timing]

    def episode_task(self, task: Task, seed: int) -> Task:
        """Return the task of the training episode with a SUMO seed."""
        return self.train_stress.apply(task, seed, self.stress_timings)

    def strongest_tasks(self) -> list[Task]:
        """Return tasks at the limits of `train_stress`, one for each network and timing."""
        disturbance = self.train_stress.strongest()
        timings = self.stress_timings or [self.timing]
        return [replace(task, disturbance=disturbance, timing=timing) for task in self.tasks() for timing in timings]

    def eval_tasks(self) -> list[Task]:
        """Return the task of the evaluation on each network."""
        return [Task(name, self.timing, self.sim, self.eval_demand, metrics=self.metrics) for name in self.network]

    def as_dict(self) -> dict[str, Any]:
        """Return the settings of the command, flat as `timing.yellow_s: value`, without those of single algorithms.

        Where it simulates is none of them.
        """
        left_out = ("algo", "cluster") if self.start_from else ("algo", "cluster", *OF_START)
        network = self.network[0] if len(self.network) == 1 else self.network
        return _flat({name: value for name, value in asdict(self).items() if name not in left_out} | {"network": network})


@dataclass(frozen=True)
class RunConfig(Generic[A]):
    """Settings of one training."""

    experiment: ExperimentConfig
    """Settings that all trainings of the command share."""
    algorithm: str
    """Name of the algorithm or of its variant."""
    seed: int
    """Training seed, 0 .. 999."""
    algo: A
    """Settings of the algorithm."""

    def as_dict(self) -> dict[str, Any]:
        """Return all settings of the training, flat as `algo.lr: value`."""
        shared = {name: value for name, value in self.experiment.as_dict().items() if name not in COMMAND_ONLY}
        return {"algorithm": self.algorithm, "seed": self.seed} | shared | _flat({"algo": asdict(self)["algo"]})


@dataclass(frozen=True)
class _TrainOptions(Generic[A]):
    """Train on a road network, or one policy on several, then evaluate beside classical controllers."""

    algo: A
    """Settings of the algorithm; every algorithm of the command must have them."""
    experiment: Annotated[ExperimentConfig, tyro.conf.arg(name="")]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings as `group.name: value`."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def check_eval_seeds(seeds: tuple[int, ...], option: str = "eval-seeds") -> None:
    """Refuse evaluation seeds that training uses."""
    check_list(option, seeds)
    for seed in seeds:
        if not 0 <= seed < TRAIN_SEEDS:
            raise UserError(
                f"{option} must lie in 0 .. {TRAIN_SEEDS - 1}, the seeds from {TRAIN_SEEDS} on are for training; got {seed}"
            )


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


def parse(argv: Sequence[str], configs: Path = CONFIGS) -> ExperimentConfig:
    """Read the options of `train`, in their names of today, into the settings of the command and its trainings.

    Files of configs/ come first: train.yaml, observations/<observation>.yaml, algos/<algorithm>.yaml, for a variant its own file
    too, and timing/<timing>.yaml. Then come those of the policy to start from, so that the command line wins.

    Raises:
        UserError: for values that cannot be, and for unknown options.
    """
    base = from_yaml(configs / "train.yaml")
    network, start = _start([*base, *argv])
    of_start = [start.algorithm] if start else []
    names = values_of([*argv], "--algos") or of_start or values_of(base, "--algos") or list(ExperimentConfig.algos)
    given = {name: _words_of_start(start, network, name) if start else [] for name in names}
    preset = (values_of([*base, *argv], "--timing-preset") or [ExperimentConfig.timing_preset])[-1]
    read_timing(preset, configs)
    timed = from_yaml(configs / "timing" / f"{preset}.yaml", "timing.")
    options = {}
    for name in names:
        observation = (values_of([*base, *given[name], *argv], "--sim.observation") or [SimConfig.observation])[-1]
        files = {configs / "train.yaml": base} | _of_observation(observation, name, configs) | _own(name, configs)
        options[name] = _train_options(name, files, [*given[name], *timed, *argv])
        if start:
            start.check_settings(options[name].algo, options[name].experiment.sim)
    shared = options[names[0]].experiment
    digest = start.digest if start else ""
    return replace(shared, algo={name: own.algo for name, own in options.items()}, start_digest=digest)


def _start(argv: list[str]) -> tuple[str, Start | None]:
    """Return the first network, and the policy whose weights a training starts from."""
    network = scenario.plain_names((values_of(argv, "--network") or list(ExperimentConfig.network))[0])[0]
    names = values_of(argv, "--start-from")
    return network, Start.find(names[-1], network) if names else None


def _words_of_start(start: Start, network: str, name: str) -> list[str]:
    start.check_algorithm(name)
    return ["--algos", start.algorithm, *words_of(start.settings(network, name), "")]


def _train_options(name: str, files: Mapping[Path, list[str]], argv: Sequence[str]) -> _TrainOptions[Any]:
    """Read the words of files, then those of the command line, as options of an algorithm's training."""
    kind = _TrainOptions[algos.find(name).Config]
    try:
        return cli(kind, [*itertools.chain(*files.values()), *argv], f"train --algos {name}")
    except UserError as error:
        paths = [str(path) for path, words in files.items() if words]
        raise UserError(f"{error} (settings of {' and '.join(paths)} count too)" if paths else str(error)) from None


def _of_observation(observation: str, name: str, configs: Path) -> dict[Path, list[str]]:
    """Read the settings that go with an observation: those of every algorithm, and under `algos` those of one.

    An observation without a file has that of the class that it is derived from.
    """
    modules = (kind.__module__.rpartition(".")[2] for kind in observations.find(observation).__mro__)
    paths = [configs / "observations" / f"{own}.yaml" for own in (observation, *modules)]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return {}
    raw = dict(settings_in(path))
    own = (raw.pop("algos", None) or {}).get(name.partition("-")[0], {})
    return {path: words_of(raw, "") + words_of(own, "algo.")}


def _own(name: str, configs: Path) -> dict[Path, list[str]]:
    """Read the settings of an algorithm, and those of a variant on top."""
    if "-" in name and name not in variants(configs):
        raise unknown("algorithm", name, algorithms(configs))
    paths = [configs / "algos" / f"{own}.yaml" for own in dict.fromkeys((name.partition("-")[0], name))]
    return {path: from_yaml(path, "algo.") for path in paths if path.exists()}


def cli(options: Callable[..., Options], argv: Sequence[str], verb: str) -> Options:
    """Read a command line into a dataclass; `--help` prints and exits.

    Raises:
        UserError: in one line, for an option that is unknown, missing or of the wrong kind.
    """
    message, prog = io.StringIO(), f"{program()} {verb}"
    try:
        with contextlib.redirect_stderr(message):
            parsed = tyro.cli(options, args=with_switches(argv, options), prog=prog, config=(tyro.conf.FlagConversionOff,))
    except SystemExit as ended:
        if not ended.code:
            raise
        lines = [line.strip(" │") for line in message.getvalue().splitlines()]
        text = " ".join(line for line in lines if line and line[0] not in "╭╰─" and not line.startswith("For full helptext"))
        text = text.split(" Argument helptext:")[0].rstrip(".")
        raise UserError(f"{text}; every option: {prog} --help") from None
    if dataclasses.is_dataclass(parsed):
        check(parsed)
    return parsed


def program() -> str:
    """Return the program as the user has called it: the console script, or the module."""
    return SCRIPT if Path(sys.argv[0]).stem == SCRIPT else "python -m tsc_marl"


def command_line(verb: str, argv: Sequence[str]) -> str:
    """Return the line that a shell takes for a verb with these words."""
    return f"{program()} {shlex.join([verb, *argv])}"

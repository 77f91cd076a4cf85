"""Options of each verb: names, defaults and help texts. Those of `train` are in config.py."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from tsc_marl.api.watchdog import Watchdog
from tsc_marl.bounds import Count, MaybeCount, NaturalNumber, NonNegative, Positive, Share
from tsc_marl.city.options import DemandOptions, RoadOptions
from tsc_marl.paths import ROOT, home
from tsc_marl.rollout.task import MetricNames
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.disturbances import PATHS as DISTURBANCE_PATHS
from tsc_marl.sim.disturbances import available as available_disturbances
from tsc_marl.sim.seeds import DEVELOPMENT_SEEDS, EVAL_SEEDS


@dataclass(frozen=True)
class StudyOptions:
    """Train every algorithm on every network with every seed. All options of `train` are accepted too."""

    network: tuple[str, ...] = ("grid4x4", "cologne8")
    """Road networks; `cross+grid2x2` is one training on both."""
    algos: tuple[str, ...] = ("mappo", "mappo_ind", "ippo", "jointq")
    """Algorithms to train: files of tsc_marl/algos/."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Training seeds; each algorithm is trained once with each on each network."""
    jobs: Count = field(default_factory=lambda: os.cpu_count() or 1)
    """Trainings side by side; by default one for each core."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure policies on held-out seeds."""

    network: tuple[str, ...] = ("grid4x4",)
    """Road networks: names, folders with scenario.yaml, .sumocfg files; `all` for all names."""
    policy: tuple[str, ...] = ("max_pressure", "fixed_time")
    """Policies: controllers, `pretrained`, algorithms (newest run), run ids, checkpoint files; `classical`: all controllers."""
    eval_seeds: tuple[int, ...] = EVAL_SEEDS
    """SUMO seeds, 0 .. 999999; training uses the seeds above."""
    baseline: str = "fixed_time"
    """Policy that the others are compared with, on the same seeds."""
    disturbances: Annotated[
        tuple[str, ...] | None,
        tyro.conf.arg(
            help="Measure under these disturbances too; without names, under all files of tsc_marl/sim/disturbances/: "
            f"{', '.join(available_disturbances())}. Or {DISTURBANCE_PATHS}."
        ),
    ] = None
    """Measure under these disturbances too; without names, under all files of `sim/disturbances/`."""
    plots: tuple[str, ...] | None = None
    """Draw time-space diagram, splits and cycles, queues and level of service of the first seed, as PNG, PDF and CSV. With names
    of signals, the diagram follows the way past them; without, the busiest."""
    sampling: bool = False
    """Measure trained policies a second time while they sample their phases, as in training: a greedy one can circle in a jam."""
    approaches: bool = False
    """Print the ten approaches with the most delay of each policy: level of service, queue, use of capacity."""
    metrics: MetricNames = ()
    demand: Demand = field(default_factory=Demand)
    out: Path = Path("results")
    """Folder; each network has its own in it with metrics.json, metrics.csv, approaches.csv, movements.csv, delay_map.png and
    SUMO's output files."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    workers: MaybeCount = None
    """Processes that simulate; by default one for each core, or for each slot of the cluster."""
    cluster: str | None = None
    """Ray cluster that simulates: `auto` for the one of this machine, `host:port`, or `ray://host:port` from outside."""


@dataclass(frozen=True)
class ResultsOptions:
    """Measure all classical controllers on RESCO's networks under both timings and write the results page."""

    out: Path = Path("results/page")
    """Folder of the metrics; existing ones are not measured again."""
    page: Path = Path("docs/results.md")
    """The page; its maps lie in maps/ beside it."""
    workers: Count = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; by default all cores."""


@dataclass(frozen=True)
class CompareOptions:
    """Compare the finished trainings of a network."""

    network: str = "grid4x4"
    """Road network; `cross+grid2x2` for trainings on both together."""
    reference: str | None = None
    """Algorithm that the others are compared with; by default mappo, if trained."""
    algos: tuple[str, ...] = ()
    """Algorithms to compare; by default all with a finished training."""
    where: str = ""
    """Trainings to use, as a filter of MLflow: tags.git_commit = '…', params.episodes = '100', start_time > 1790000000000."""


@dataclass(frozen=True)
class ProbeOptions:
    """Measure bias and variance of the policy gradient at saved policies."""

    network: str = "grid4x4"
    """Road network."""
    policy: tuple[str, ...] = ("jointq",)
    """Policies of the PPO family: algorithms (newest finished run), run ids, checkpoints, folders of a run with all snapshots."""
    episodes: int = 32
    """Episodes of each policy; the critics of one half are fitted on the other half."""
    truth_lam: Share = 1.0
    """Lambda of the reference gradient. 1 has no bias; a lower value has less variance and the bias of the critics."""
    out: Path = Path("results/probe")
    """Folder for probe.json, probe.csv and probe.png."""
    workers: Count = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; by default all cores."""


@dataclass(frozen=True)
class BranchOptions:
    """Measure by branches of running simulations how a signal's phase changes its own delay and that of others."""

    network: str = "grid4x4"
    """Road network with several signals."""
    policy: str = "max_pressure"
    """Classical controller, `pretrained`, algorithm (the newest finished run), run id, or checkpoint file. With stored
    branches, a trained policy whose critic is scored on them."""
    greedy: bool = False
    """Let a trained policy take its most likely phases, as in evaluations. By default it samples them, as in training: its critic
    estimates the effects of that."""
    seeds: tuple[int, ...] = DEVELOPMENT_SEEDS
    """SUMO seeds of the episodes, 0 .. 999999."""
    states: Count = 20
    """States to branch from, spread over the window and the seeds."""
    signals: Count = 3
    """Signals whose phases are forced at each state, drawn among those with a choice."""
    continuations: Count = 4
    """Continuations of each phase, with random numbers of their own for drivers and policy; the same for all phases."""
    horizon_s: Positive = 150.0
    """How long a branch is followed [s]."""
    file: tuple[Path, ...] = ()
    """Play nothing: read the branches of these files, print the tables of all together, and write them to `out` with the
    estimates of the critic."""
    out: Path = Path("results/branch")
    """Folder of branches_<network>_<policy>.npz, with all branches, and the picture beside it."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    workers: Count = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; by default all cores."""


@dataclass(frozen=True)
class ReportOptions:
    """Write one HTML page on the finished trainings, with its plots as PNG and PDF."""

    network: tuple[str, ...] = ("grid4x4",)
    """Road networks, a section each."""
    reference: str | None = None
    """Algorithm that the others are compared with; by default mappo, if trained."""
    algos: tuple[str, ...] = ()
    """Algorithms to compare; by default all with a finished training."""
    where: str = ""
    """Trainings to use, as a filter of MLflow, as for `compare`."""
    out: Path = field(default_factory=lambda: home() / "report" / "report.html")
    """HTML file; the plots lie beside it."""


@dataclass(frozen=True)
class ExportOptions:
    """Write finished trainings as files, to publish them or to take them to another store."""

    network: tuple[str, ...] = ()
    """Road networks; by default all with a finished training."""
    algos: tuple[str, ...] = ()
    """Algorithms to export; by default all with a finished training."""
    where: str = ""
    """Trainings to use, as a filter of MLflow, as for `compare`."""
    out: Path = Path("trainings")
    """Folder; each network gets one in it."""


@dataclass(frozen=True)
class ReleaseOptions:
    """Write the weights of a policy alone, as a small file to share. `--policy` and `--start-from` take it."""

    network: str = "grid4x4"
    """Road network on which to look for an algorithm's newest run."""
    policy: str = "jointq"
    """Trained policy: algorithm (the newest finished run), run id, or checkpoint file."""
    mean_of: Count = 1
    """Saved states whose weights are averaged: a checkpoint, and the snapshots before it in its folder, one for each quarter."""
    out: Path = Path("results/policy.safetensors")
    """File to write."""


@dataclass(frozen=True)
class DeployOptions:
    """Write what a controller on the street needs to run a policy: ONNX weights, detectors, signal plans, a controller."""

    network: str = "grid4x4"
    """Road network."""
    policy: str = "pretrained"
    """Trained policy: `pretrained`, algorithm (the newest finished run), run id, or checkpoint file."""
    out: Path | None = None
    """Folder to make; by default deploy/<network>-<policy>."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/; field is what a street needs."""


@dataclass(frozen=True)
class ServeOptions:
    """Let a policy drive signals live: those of a running SUMO, or those of a street through a gateway."""

    network: str = "grid4x4"
    """Road network: a name, a folder with scenario.yaml, or the .sumocfg file of the running SUMO."""
    policy: str = "pretrained"
    """Trained policy: `pretrained`, algorithm (the newest finished run), run id, or checkpoint file. In SUMO, controllers too."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """Folder of `deploy` that the gateway serves; by default it makes one from network, policy and timing."""
    traci: str | None = None
    """`host:port` of a SUMO that others started for 2 clients; by default a gateway runs instead."""
    http: int = 8840
    """Port of the gateway, 1 .. 65535."""
    mqtt: str | None = None
    """Broker that the gateway joins instead of HTTP: `host:port`, `mqtt://…`, or `mqtts://user:password@host:port`."""
    host: str = "127.0.0.1"
    """Address at which the gateway listens; 0.0.0.0 for all of this machine. It asks nobody for a password."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/; field is what a street needs."""
    watchdog: Watchdog = field(default_factory=Watchdog)


@dataclass(frozen=True)
class ImportOptions:
    """Take exported trainings into the store."""

    folder: Path = ROOT / "docs" / "trainings"
    """Folder of exported trainings, searched with its subfolders; by default those that the repository publishes."""


@dataclass(frozen=True)
class WatchOptions:
    """Show a policy in sumo-gui."""

    network: str = "grid4x4"
    """Road network."""
    policy: str = "jointq"
    """Classical controller, `pretrained`, algorithm (the newest finished run), run id, or checkpoint file."""
    seed: int = 1000
    """SUMO seed, 0 .. 2147483647."""
    delay_ms: NaturalNumber = 100
    """Real time for one simulated second [ms]."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    quit_on_end: bool = False
    """Close the window when the episode ends, without showing the result first."""
    signal: str = ""
    """Signal whose phases have a bar each beside the network; by default the first. In the window, select another's disc."""


@dataclass(frozen=True)
class ExplainOptions:
    """Show how a trained policy values its phases in one episode."""

    network: str = "grid4x4"
    """Road network."""
    policy: str = "jointq"
    """Trained policy: `pretrained`, algorithm (the newest finished run), run id, or checkpoint file."""
    seed: int = 1000
    """SUMO seed of the episode."""
    out: Path = Path("results/explain")
    """Folder of the table, decisions_<network>_<policy>.csv, and the picture beside it."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""


@dataclass(frozen=True)
class LocksOptions:
    """Look for vehicles that stand for minutes, and for what holds them."""

    network: str = "grid4x4"
    """Road network."""
    policy: str = "max_pressure"
    """Classical controller, algorithm (the newest finished run), run id, or checkpoint file."""
    eval_seeds: tuple[int, ...] = EVAL_SEEDS
    """SUMO seeds of the episodes, 0 .. 999999."""
    standing_s: Positive = 300.0
    """How long a vehicle stands before that is a lock [s]."""
    out: Path = Path("results/locks")
    """Folder of the table, locks_<network>_<policy>.csv, and a map of each lock."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    workers: Count = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; by default all cores."""


@dataclass(frozen=True)
class VideoOptions:
    """Draw a clip of an episode as a video, one policy or two side by side."""

    network: str = "grid4x4"
    """Road network."""
    policy: tuple[str, ...] = ("jointq", "fixed_time")
    """One or two policies: classical controllers, `pretrained`, algorithms (newest run), run ids, checkpoint files."""
    from_s: int = 600
    """Start of the clip [s], counted from the start of the episode."""
    to_s: int = 780
    """End of the clip [s], counted from the start of the episode."""
    seed: int = 1000
    """SUMO seed of both, 0 .. 2147483647."""
    out: Path = Path("results/video.gif")
    """File to write: .gif, or .mp4 where ffmpeg is installed."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""


@dataclass(frozen=True)
class ShowOptions:
    """Write a page that plays an episode in any browser, one policy or two side by side; needs no display."""

    network: str = "grid4x4"
    """Road network."""
    policy: tuple[str, ...] = ("pretrained", "fixed_time")
    """One or two policies: classical controllers, `pretrained`, algorithms (newest run), run ids, checkpoint files."""
    seed: int = 1000
    """SUMO seed of both, 0 .. 2147483647."""
    to_s: int | None = None
    """End of the recording [s], counted from the start of the episode; by default the end of the window."""
    out: Path = Path("results/show.html")
    """File to write."""
    timing_preset: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""


@dataclass(frozen=True)
class UiOptions:
    """Open MLflow's pages."""

    port: int = 5000
    """Port on this machine, 1 .. 65535."""


@dataclass(frozen=True)
class NetworksOptions:
    """List the road networks, or show the phases of some."""

    network: tuple[str, ...] = ()
    """Road networks to show, with what each phase of their signals serves; by default all are listed, without phases."""
    intergreen: Path | None = None
    """Write the intergreen times in force, a file <signal>.csv for each signal, into this folder; for one network."""
    timing_preset: str = "sumo-rl"
    """Signal timing of those times: a file of configs/timing/."""


@dataclass(frozen=True)
class GenerateOptions:
    """Make road networks with demand to train on, named generated-<seed>."""

    seeds: tuple[int, ...] = (0,)
    """A network for each; the same seed gives the same network."""
    count: Count = 1
    """Networks to make from one seed on: those of seeds 64, 65 and 66 for a count of 3 and seed 64."""
    out: Path = Path("networks")
    """Folder; each network gets one in it."""
    workers: Count = field(default_factory=lambda: os.cpu_count() or 1)
    """Networks that are made side by side; by default one for each core."""


@dataclass(frozen=True)
class CityOptions:
    """Make a network to train on from a map of a city, or from SUMO's files; nothing is downloaded."""

    source: Annotated[Path, tyro.conf.arg(name="from")] = Path("examples/town.osm")
    """OSM extract (.osm, .osm.gz, .osm.xml.gz), SUMO network (.net.xml), .sumocfg file, or osmWebWizard's folder."""
    network: str = ""
    """Name of the network; by default that of the file."""
    roads: Annotated[RoadOptions, tyro.conf.arg(name="")] = field(default_factory=RoadOptions)
    demand: Annotated[DemandOptions, tyro.conf.arg(name="")] = field(default_factory=DemandOptions)
    out: Path = Path("networks")
    """Folder; the network gets one in it."""


@dataclass(frozen=True)
class CutOptions:
    """Make a network of some signals of another one: the roads around them, and the vehicles that drive there."""

    source: Annotated[str, tyro.conf.arg(name="from")] = "grid4x4"
    """The whole network: a name, a folder with scenario.yaml, or a .sumocfg file."""
    signals: tuple[str, ...] = ()
    """Signals that become agents; others in the part keep their program."""
    around_m: NonNegative = 200.0
    """How far from their junctions other junctions belong to the part [m]."""
    network: str = ""
    """Name of the part; by default that of the whole with `-part`."""
    out: Path = Path("networks")
    """Folder; the network gets one in it."""


@dataclass(frozen=True)
class DoctorOptions:
    """Check the installation, the store, the disk and what killed processes left; say what to do."""


@dataclass(frozen=True)
class BenchOptions:
    """Measure speed as ratios within one run."""

    only: tuple[str, ...] = field(default=())
    """Names of measurements; by default all but `cluster`, which needs Ray and some 10 GB of memory."""


@dataclass(frozen=True)
class CheckLightsOptions:
    """Check the lights in SUMO's own log, every second: yellow, all-red, least green, longest red, crossing greens."""

    network: tuple[str, ...] = ()
    """Road networks; by default all of networks/."""
    policy: tuple[str, ...] = ()
    """Controllers, algorithms, `pretrained` or run ids; by default all controllers, and requests at random, legal or not."""
    timing_preset: tuple[str, ...] = ()
    """Signal timings: files of configs/timing/; by default all."""
    seeds: tuple[int, ...] = (1000,)
    """SUMO seeds, 0 .. 2147483647."""
    signal_seconds: Positive | None = None
    """Signal-seconds to check, such as 1e7: further seeds are played until it is reached, and no more episodes than needed."""
    out: Path = Path("results/lights")
    """Folder of lights.csv, violations.csv and logs/, SUMO's files of the episodes with violations."""
    workers: Count = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; by default all cores."""


def split(argv: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options with these names, and the others, each with its values."""
    parts: tuple[list[str], list[str]] = [], []
    into = parts[0]
    for word in argv:
        if word.startswith("--"):
            into = parts[0] if word.split("=")[0].removeprefix("--") in names else parts[1]
        into.append(word)
    return parts

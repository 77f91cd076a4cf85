"""What each verb can be told: names, defaults and help texts of the command line (those of `train` are in config.py)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tsc_marl.config import EVAL_SEEDS
from tsc_marl.errors import UserError
from tsc_marl.paths import ROOT, home
from tsc_marl.sim.demand import Demand


@dataclass(frozen=True)
class StudyOptions:
    """Train every algorithm on every network with every seed; the options of `train` apply to all of them."""

    net: tuple[str, ...] = ("grid4x4", "cologne8")
    """Road networks."""
    algos: tuple[str, ...] = ("mappo", "mappo_ind", "ippo", "jointq")
    """Algorithms to train: files of tsc_marl/algos/."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Training seeds; each algorithm is trained once with each on each network."""
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Trainings side by side; the default is one per core."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Measure controllers on held-out seeds."""

    net: tuple[str, ...] = ("grid4x4",)
    """Road networks, or `all`."""
    controller: tuple[str, ...] = ("max_pressure", "fixed_time")
    """Classical controllers, algorithms (their newest finished run), run ids, or checkpoint files; `classical` for all of
    the first."""
    eval_seeds: tuple[int, ...] = EVAL_SEEDS
    """SUMO seeds; those of training are refused."""
    baseline: str = "fixed_time"
    """The controller that the others are compared with on the same seeds, where it is among them."""
    stress: tuple[str, ...] | None = None
    """Play also under these disturbances, all of them where none is named: demand-0.7, demand-1.3, lane-blocked, blind-20%,
    frozen-20%, missed-20% (detectors), signal-stuck, or an import path package.module:NAME of a `Disturbance`."""
    demand: Demand = field(default_factory=Demand)
    out: Path = Path("results")
    """Folder; each network gets one in it with metrics.json, metrics.csv, delay_map.png and, per controller, SUMO's own files."""
    timing: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; the default is all cores."""


@dataclass(frozen=True)
class ResultsOptions:
    """Measure all classical controllers on RESCO's networks under both timings and write the results page."""

    out: Path = Path("results/page")
    """Folder of the figures; what is there is not measured again."""
    page: Path = Path("docs/results.md")
    """The page; its maps lie in maps/ beside it."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; the default is all cores."""


@dataclass(frozen=True)
class CompareOptions:
    """Compare the finished trainings of a network."""

    net: str = "grid4x4"
    """Road network."""
    reference: str | None = None
    """The algorithm that the others are compared with; default mappo where it is there."""
    algos: tuple[str, ...] = ()
    """Algorithms to compare; default all that were trained."""
    where: str = ""
    """Which trainings, as MLflow's filter: tags.git_commit = '…', params.episodes = '100', start_time > 1790000000000."""


@dataclass(frozen=True)
class ProbeOptions:
    """Measure bias and variance of the policy gradient at saved policies."""

    net: str = "grid4x4"
    """Road network."""
    run: tuple[str, ...] = ("jointq",)
    """Policies of the PPO family: an algorithm (its newest finished run), a run id, a checkpoint file, or the folder of a run
    with all its snapshots."""
    episodes: int = 32
    """Episodes to play with each; every half is measured with critics that were fitted on the other."""
    truth_lam: float = 1.0
    """Lambda of the true gradient: 1 is exact but noisy, less is surer but leans on fitted values."""
    out: Path = Path("results/probe")
    """Folder for probe.json, probe.csv and probe.png."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes that simulate; the default is all cores."""


@dataclass(frozen=True)
class ReportOptions:
    """Write what finished trainings answer as one HTML page, with its figures as PNG and PDF."""

    net: tuple[str, ...] = ("grid4x4",)
    """Road networks, a section each."""
    reference: str | None = None
    """The algorithm that the others are compared with; default mappo where it is there."""
    algos: tuple[str, ...] = ()
    """Algorithms to compare; default all that were trained."""
    where: str = ""
    """Which trainings, as MLflow's filter, as for `compare`."""
    out: Path = field(default_factory=lambda: home() / "report" / "report.html")
    """The page; the figures for a paper lie beside it."""


@dataclass(frozen=True)
class ExportOptions:
    """Write finished trainings as files, to publish them or to take them to another store."""

    net: tuple[str, ...] = ()
    """Road networks; default all that something was trained on."""
    algos: tuple[str, ...] = ()
    """Algorithms; default all that were trained."""
    where: str = ""
    """Which trainings, as MLflow's filter, as for `compare`."""
    out: Path = Path("trainings")
    """Folder; each network gets one in it."""


@dataclass(frozen=True)
class ImportOptions:
    """Take exported trainings into the store."""

    folder: Path = ROOT / "docs" / "trainings"
    """Where they lie, in it or in folders within; the default is what this repository publishes."""


@dataclass(frozen=True)
class WatchOptions:
    """Show a controller in sumo-gui."""

    net: str = "grid4x4"
    """Road network."""
    controller: str = "jointq"
    """A classical controller, an algorithm (its newest finished run), a run id, or a checkpoint file."""
    seed: int = 1000
    """SUMO seed."""
    delay_ms: int = 100
    """Milliseconds of real time for one simulated second."""
    timing: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""
    quit_on_end: bool = False
    """Close the window when the episode ends."""


@dataclass(frozen=True)
class ExplainOptions:
    """Show how a trained policy values its phases in one episode."""

    net: str = "grid4x4"
    """Road network."""
    run: str = "jointq"
    """A trained policy: an algorithm (its newest finished run), a run id, or a checkpoint file."""
    seed: int = 1000
    """SUMO seed of the episode."""
    out: Path = Path("results/explain")
    """Folder of the table, decisions_<network>_<policy>.csv, and the picture beside it."""
    timing: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""


@dataclass(frozen=True)
class VideoOptions:
    """Draw a stretch of an episode as a video, one controller or two side by side."""

    net: str = "grid4x4"
    """Road network."""
    controller: tuple[str, ...] = ("jointq", "fixed_time")
    """One or two classical controllers, algorithms (their newest finished run), run ids, or checkpoint files."""
    from_s: int = 600
    """Start of the stretch, in seconds from the start of the network's window."""
    to_s: int = 780
    """End of the stretch, likewise."""
    seed: int = 1000
    """SUMO seed, the same for both."""
    out: Path = Path("results/video.gif")
    """File to write: .gif, or .mp4 where ffmpeg is installed."""
    timing: str = "sumo-rl"
    """Signal timing: a file of configs/timing/."""


@dataclass(frozen=True)
class UiOptions:
    """Open MLflow's pages."""

    port: int = 5000
    """Port on this machine."""


@dataclass(frozen=True)
class NetsOptions:
    """List the road networks."""

    net: tuple[str, ...] = ()
    """Only these; default all."""


@dataclass(frozen=True)
class BenchOptions:
    """Measure speed as ratios within one run."""

    only: tuple[str, ...] = field(default=())
    """Names of single measurements; default all."""


def make_folder(out: Path) -> None:
    """Make the folder of the option `out`, before anything is measured that would be lost without it.

    Raises:
        UserError: when it cannot be made, or SUMO could not read in it.
    """
    if "," in str(out):
        raise UserError(f"out {out} has a comma, where SUMO ends a file name; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out {out} cannot be made ({error.strerror}); give another folder") from None


def split(argv: Sequence[str], names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the options with these names, and the others, each with its values."""
    parts: tuple[list[str], list[str]] = [], []
    into = parts[0]
    for word in argv:
        if word.startswith("--"):
            into = parts[0] if word.split("=")[0].removeprefix("--") in names else parts[1]
        into.append(word)
    return parts

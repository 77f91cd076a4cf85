"""Files of a training: the folder `runs/<run>` of one command, and in it a folder for each algorithm and seed."""

from dataclasses import dataclass
from pathlib import Path

from tsc_marl.paths import file_name, home

CHECKPOINT = "checkpoint.pt"
"""File of a training's newest state, also as an artifact in the tracking store."""
EVALUATION = "evaluation.json"
"""File with the metrics of every evaluation episode, over several networks their means; also an artifact in the store."""
PICTURES = "pictures"
"""Tag of a run with the engineers' pictures of an evaluation: whose they are."""
SNAPSHOTS = "snapshots"
"""Folder of a training's earlier policies, `<episodes played>.pt`."""


def runs() -> Path:
    """Return the folder of all runs."""
    return home() / "runs"


def _evaluation_on(folder: Path, network: str) -> Path:
    return folder / f"{Path(EVALUATION).stem}_{file_name(network)}.json"


@dataclass(frozen=True)
class TrainingFolder:
    """Files of one algorithm with one seed."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        return self.path / CHECKPOINT

    @property
    def evaluation(self) -> Path:
        return self.path / EVALUATION

    def evaluation_on(self, network: str) -> Path:
        """Return the evaluation on one of several networks."""
        return _evaluation_on(self.path, network)

    @property
    def config(self) -> Path:
        """All settings, flat as `algo.lr: value`."""
        return self.path / "config.json"

    @property
    def learning_curve(self) -> Path:
        return self.path / "learning_curve.png"

    @property
    def signal_maps(self) -> Path:
        """Metrics of the signals over training."""
        return self.path / "signals.png"

    @property
    def policy(self) -> Path:
        """The final policy for other programs (`deploy`)."""
        return self.path / "policy.pt"

    def snapshot(self, episode: int) -> Path:
        """Return the file of the policy after a number of training episodes."""
        return self.path / SNAPSHOTS / f"{episode:06d}.pt"

    def checkpoints(self) -> list[Path]:
        """Return the snapshots in the order of their episodes, then the newest state."""
        snapshots = sorted((self.path / SNAPSHOTS).glob("[0-9]*.pt"), key=lambda path: int(path.stem))
        return [*snapshots, *(path for path in (self.checkpoint,) if path.is_file())]


@dataclass(frozen=True)
class RunFolder:
    """Files of all trainings that one command starts."""

    path: Path

    @staticmethod
    def named(name: str) -> "RunFolder":
        """Return the folder of a run."""
        return RunFolder(runs() / name)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def command(self) -> Path:
        """The words of the command line."""
        return self.path / "command.json"

    @property
    def config(self) -> Path:
        """The settings of each algorithm, defaults and files included: a resumed run uses these."""
        return self.path / "config.json"

    @property
    def start(self) -> Path:
        """Checkpoint whose weights the trainings start from, where the command names one."""
        return self.path / "start.pt"

    @property
    def old_configs(self) -> Path:
        """Copy of configs/ in runs of earlier versions, which have no `config`."""
        return self.path / "configs"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def parent_id(self) -> Path:
        """Id of the parent run in the tracking store."""
        return self.path / "mlflow_parent"

    @property
    def evaluation(self) -> Path:
        return self.path / EVALUATION

    def evaluation_on(self, network: str) -> Path:
        """Return the evaluation on one of several networks."""
        return _evaluation_on(self.path, network)

    @property
    def measured(self) -> Path:
        """Earlier evaluation, whose classical controllers need not play again."""
        return self.path / "measured.json"

    @property
    def learning_curve(self) -> Path:
        return self.path / "learning_curve.png"

    @property
    def finished(self) -> Path:
        """Empty file of a run that is complete in the tracking store."""
        return self.path / "finished"

    @property
    def log(self) -> Path:
        """Output of a training that a study started."""
        return self.path / "log.txt"

    def training(self, algorithm: str, seed: int) -> TrainingFolder:
        """Return the folder of one algorithm with one seed; a run of an earlier version may have the plain name."""
        name = f"{algorithm}-s{seed}"
        plain = self.path / name
        return TrainingFolder(plain if plain.exists() else self.path / file_name(name))

"""What the Python interface returns: policies, evaluations, trainings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsc_marl import deploy
from tsc_marl.config import algorithms
from tsc_marl.errors import UserError
from tsc_marl.evaluation import statistics
from tsc_marl.evaluation.evaluate import Results, results_from
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.sim import scenario
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import checkpoint, sealed
from tsc_marl.tracking.evaluation_file import Evaluation
from tsc_marl.tracking.policies import ALL_NETWORKS, find_checkpoint, needs_network
from tsc_marl.tracking.run_folder import CHECKPOINT, RunFolder
from tsc_marl.tracking.stored_runs import IMPORTED, StoredRuns
from tsc_marl.types import Spec


@dataclass
class SavedPolicy:
    """A trained policy that chooses phases greedily.

    `act` works on arrays of all signals, `choose` on the dictionaries of `make`'s environment. A recurrent policy remembers the
    decisions since the last `reset`.
    """

    name: str
    """Of the algorithm."""
    network: str
    """Plain name of the network that it drives: that of its training, or of `load_policy`."""
    timing: Timing
    """Signal timing of the training."""
    policy: TrainedPolicy = field(repr=False)
    """Settings and weights."""
    spec: Spec | None = field(default=None, repr=False)
    """Sizes; None: one simulation is started to read them, when they are first needed."""

    @cached_property
    def _actor(self) -> deploy.Trained:
        if self.spec is None:
            with Pool(1) as pool:
                self.spec = pool.read_spec(self.policy.task_for(Task(self.network, self.timing)))
        return deploy.Trained(self.policy, self.spec)

    @property
    def observed(self) -> SimConfig:
        """Observation and detection distance of the training."""
        return self.policy.sim or SimConfig()

    def reset(self) -> None:
        """Forget the decisions so far; call it at the start of an episode."""
        self.__dict__.pop("_actor", None)

    def act(self, obs: np.ndarray, avail: np.ndarray) -> np.ndarray:
        """Choose a phase for every signal.

        Args:
            obs: `[N, F]` float32, the observation of each signal.
            avail: `[N, A]` bool, the legal phases; False for phases that a signal does not have.

        Returns the numbers of the phases, `[N]` int64.

        Raises:
            UserError: for observations of another network, or of another kind than the policy's.
        """
        spec = self._actor.spec
        if obs.shape != (expected := (spec.n_agents, spec.obs_dim)):
            raise UserError(
                f"the policy of {self.name} reads observation {self.observed.observation} of {spec.network}, {expected}; "
                f"got {obs.shape}; load it with load_policy(…, network=…) for another network"
            )
        return self._actor.predict({"obs": obs[None], "avail": avail[None]})[0]

    def choose(self, observations: Mapping[str, np.ndarray], infos: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
        """Choose a phase for every agent of `make`'s environment, from what `reset` or `step` returned."""
        masks = [np.asarray(infos[agent]["action_mask"], bool) for agent in observations]
        widest = max(len(mask) for mask in masks)
        avail = np.stack([np.pad(mask, (0, widest - len(mask))) for mask in masks])
        return dict(zip(observations, self.act(np.stack(list(observations.values())), avail).tolist(), strict=True))


def load_policy(policy: str | Path, network: str | Path | None = None) -> SavedPolicy:
    """Return a trained policy.

    Args:
        policy: `pretrained`, an algorithm (its newest finished run), a run id, a folder of a run, a model (`models:/…`), or a
            file: `checkpoint.pt`, `policy.pt`, or one that `release` wrote.
        network: which it drives; only a portable policy drives another than that of its training. None for that one, for an
            algorithm the network of its newest run.

    Raises:
        UserError: when there is none, or when it cannot drive the network.
    """
    path = Path(policy) / CHECKPOINT if Path(policy).is_dir() else Path(policy)
    if path.name == "policy.pt" and path.is_file():
        return _from_policy_file(path, network)
    place = scenario.plain_name(str(network)) if network is not None else None
    if not path.is_file():
        path = find_checkpoint(str(policy), place or _newest_network(str(policy)))
    saved = checkpoint.load(path)
    return SavedPolicy(saved.algorithm, place or saved.network, Timing(**saved.timing), saved.policy(place or saved.network))


def _newest_network(policy: str) -> str:
    """Return where the newest finished run of an algorithm was trained."""
    if not needs_network(policy):
        return ALL_NETWORKS
    store = StoredRuns(ALL_NETWORKS)
    runs = {
        run.info.start_time: network
        for network in store.experiments()
        for run in StoredRuns(network).finished(f"tags.algorithm = '{policy}'")
        if IMPORTED not in run.data.tags
    }
    if not runs and policy in algorithms():
        raise UserError(f"no finished run of {policy} on any network; train one: tsc-marl train --algos {policy}")
    return runs[max(runs)] if runs else ALL_NETWORKS


def _from_policy_file(path: Path, network: str | Path | None) -> SavedPolicy:
    policy, spec, timing = deploy.load(path)
    place = spec.network if network is None else scenario.plain_name(str(network))
    policy.check_network([spec.network], place)
    return SavedPolicy(policy.name, place, timing, policy, spec if place == spec.network else None)


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of every policy and episode on one network."""

    network: str
    metrics: Results
    """Per policy the metrics of each episode (`tsc_marl.sim.metrics`), such as `delay` [s per vehicle]."""

    def to_frame(self) -> pd.DataFrame:
        """Return one row per policy and episode: `network`, `policy`, `seed`, and a column per metric."""
        entries = [(name, episode.as_row()) for name, episodes in self.metrics.items() for episode in episodes]
        return pd.DataFrame([{"network": self.network, "policy": name, **row} for name, row in entries])

    def mean(self, metric: str = "delay") -> dict[str, float]:
        """Return the mean of a metric over the episodes, by policy."""
        return {name: statistics.mean(episodes, metric) for name, episodes in self.metrics.items()}

    def __repr__(self) -> str:
        best_first = sorted(self.mean().items(), key=lambda entry: entry[1])
        return f"<EvaluationResult {self.network}, mean delay: {', '.join(f'{name} {s:.1f} s' for name, s in best_first)}>"


@dataclass(frozen=True)
class TrainingResult:
    """A finished training: one run per algorithm and seed, in one folder of `runs/`."""

    folder: Path

    @property
    def runs(self) -> list[str]:
        """Names of the runs, `<algorithm>-s<seed>`; each has a folder with its checkpoint."""
        return sorted(path.parent.name for path in self.folder.glob(f"*/{CHECKPOINT}"))

    def history(self) -> pd.DataFrame:
        """Return the learning curves: one row per update with `run`, `episode`, `steps`, `delay` [s], `reward`, `minutes`."""
        curves = {run: checkpoint.load(self.folder / run / CHECKPOINT).history for run in self.runs}
        return pd.DataFrame([{"run": run, **row} for run, curve in curves.items() for row in curve])

    @property
    def evaluation(self) -> EvaluationResult:
        """Metrics of the final policies and of the classical controllers beside them."""
        content = sealed.read(RunFolder(self.folder).evaluation, Evaluation, "evaluate the policies anew")
        return EvaluationResult(content["network"], results_from(content))

    def policy(self, run: str | None = None) -> SavedPolicy:
        """Return the final policy of a run; None for the only one."""
        names = self.runs
        if run not in names and not (run is None and len(names) == 1):
            raise UserError(f"run {run} is not one of {', '.join(names)}; give its name")
        return load_policy(self.folder / (run or names[0]))

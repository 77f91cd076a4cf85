"""The Python interface: environments, policies, evaluation and training in one call each.

All functions raise `UserError`, in one line, for input that cannot be used. Files go to the folder `TSC_MARL_HOME`, by default
the current one.
"""

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsc_marl.errors import UserError
from tsc_marl.sim import scenario
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.signal_timing import Timing

if TYPE_CHECKING:
    from tsc_marl.api.results import EvaluationResult, TrainingResult
    from tsc_marl.rollout.policies import Policy
    from tsc_marl.rollout.task import Task
    from tsc_marl.sim.gymnasium_env import SingleSignalEnv
    from tsc_marl.sim.pettingzoo_env import ParallelTrafficEnv


def list_networks() -> list[str]:
    """Return the names of the road networks that come with the package."""
    return scenario.available()


def list_controllers() -> list[str]:
    """Return the names of the classical controllers; `evaluate` takes each as a policy."""
    from tsc_marl import controllers

    return controllers.available()


def list_algorithms() -> list[str]:
    """Return the names of the algorithms and their variants; `train` takes each."""
    from tsc_marl import config

    return config.algorithms()


def make(
    network: str | Path, timing: Timing | str | None = None, observation: str = SimConfig.observation,
    reward: str = SimConfig.reward, detection_m: float = 200.0,
) -> "ParallelTrafficEnv":  # fmt: skip
    """Return a PettingZoo `ParallelEnv` in which every signal is an agent.

    Args:
        network: a name, a folder with a scenario.yaml, or a `.sumocfg` file.
        timing: a `Timing`, or the name of a preset; None for sumo-rl's.
        observation: name or import path `module:Name`.
        reward: name or import path `module:Name`.
        detection_m: how far upstream of the stop line vehicles are detected, in metres.
    """
    from tsc_marl.sim.pettingzoo_env import ParallelTrafficEnv

    return ParallelTrafficEnv(str(network), _timing(timing), _sim_config(observation, reward, detection_m))


def make_single(
    network: str | Path, signal: str | None = None, others: str = "max_pressure", timing: Timing | str | None = None,
    observation: str = SimConfig.observation, reward: str = SimConfig.reward, detection_m: float = 200.0,
) -> "SingleSignalEnv":  # fmt: skip
    """Return a Gymnasium `Env` of one signal.

    Args:
        network: as in `make`.
        signal: name of the signal; None for the network's only one.
        others: classical controller that drives the other signals. Controllers that run programs of SUMO cannot.
        timing: as in `make`.
        observation: as in `make`.
        reward: as in `make`.
        detection_m: as in `make`.
    """
    from tsc_marl import controllers
    from tsc_marl.sim.env_process import EnvSpec
    from tsc_marl.sim.gymnasium_env import SingleSignalEnv

    controller = controllers.find(others)
    if controller.sumo_controlled:
        raise UserError(f"others {others} runs programs of SUMO, beside which no signal can be controlled; use max_pressure")
    config = _sim_config(observation, reward, detection_m)
    return SingleSignalEnv(EnvSpec(scenario.load(str(network)), _timing(timing) or Timing(), config, controller), signal)


def evaluate(
    network: str | Path, policies: "Sequence[Any] | Mapping[str, Any]" = ("max_pressure", "fixed_time"),
    seeds: Sequence[int] | None = None, timing: Timing | str | None = None, demand: Demand | None = None,
    workers: int | None = None, out: str | Path | None = None, metrics: Sequence[str] = (), cluster: str | None = None,
) -> "EvaluationResult":  # fmt: skip
    """Play policies greedily on the same SUMO seeds and return their metrics.

    Args:
        network: as in `make`.
        policies: controllers, algorithms, run ids, files, `SavedPolicy` objects or `Controller` classes. A mapping gives each
            a label. A class of the running script needs the guard `if __name__ == "__main__":` there.
        seeds: SUMO seeds below 1,000,000; None for 1000 .. 1009.
        timing: as in `make`.
        demand: variation of the traffic; None for the route files' own.
        workers: processes; None for one per core, or per slot of the cluster.
        out: folder for SUMO's own files, `<out>/<label>/`; None keeps none.
        metrics: metrics of your own beside the standard ones, by import paths `module:Name`.
        cluster: address of a Ray cluster that plays the episodes, as `--cluster`; None for this machine.
    """
    from tsc_marl.api.results import EvaluationResult
    from tsc_marl.config import EVAL_SEEDS, check_eval_seeds
    from tsc_marl.evaluation import evaluate as evaluation
    from tsc_marl.rollout.cluster.pool import open_pool
    from tsc_marl.rollout.task import Task

    seeds = EVAL_SEEDS if seeds is None else tuple(seeds)
    check_eval_seeds(seeds, "seeds")
    task = Task(str(network), _timing(timing) or Timing(), demand=demand or Demand(), metrics=tuple(metrics))
    labelled = policies if isinstance(policies, Mapping) else {_label(policy): policy for policy in policies}
    policies_by_label = {label: _policy(policy, task) for label, policy in labelled.items()}
    with open_pool(workers, cluster=cluster) as pool:
        rows = evaluation.evaluate(pool, task, policies_by_label, seeds, Path(out) if out is not None else None)
    return EvaluationResult(task.network, rows)


def train(
    network: "str | Path | Sequence[str | Path]", algos: "Sequence[str | type] | None" = None, seeds: Sequence[int] = (0,),
    episodes: int | None = None, **settings: Any,
) -> "TrainingResult":  # fmt: skip
    """Train algorithms, evaluate them beside classical controllers, and return the folder with the results.

    Nothing is printed, unless `tsc_marl.console.show_log()` was called. The program uses one thread of torch from then on,
    since the number of threads changes the sums.

    Args:
        network: as in `make`; one policy learns on several.
        algos: names of algorithms or variants, or `Algorithm` classes. A class of the running script needs the guard
            `if __name__ == "__main__":` there. None for mappo and jointq, or for the algorithm of the policy to start from.
        seeds: training seeds, 0 .. 999.
        episodes: training episodes for each algorithm and seed, on each network; None for those that go with the observation.
        settings: further options of `tsc-marl train`: `workers=2`, `eval_seeds=(1, 2)`, `algo={"gamma": 0.98}`,
            `start_from="pretrained"`.
    """
    from tsc_marl import old_options
    from tsc_marl.api.results import TrainingResult
    from tsc_marl.training import loop

    names = [_import_path(algorithm) if isinstance(algorithm, type) else algorithm for algorithm in algos or ()]
    chosen = {"algos": names or None, "episodes": episodes}
    given = {name: value for name, value in chosen.items() if value is not None}
    options = {"network": network, "seeds": seeds, **given, **settings}
    return TrainingResult(loop.train(old_options.replace(_arguments(options))))


def _arguments(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return settings as the words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            words += _arguments(value, f"{prefix}{name}.")
        else:
            values = [value] if isinstance(value, str | Path) or not isinstance(value, Sequence) else value
            words += [f"--{prefix}{name}".replace("_", "-"), *map(str, values)]
    return words


def _timing(timing: Timing | str | None) -> Timing | None:
    if not isinstance(timing, str):
        return timing
    from tsc_marl.config import read_timing

    return read_timing(timing)


def _sim_config(observation: str, reward: str, detection_m: float) -> SimConfig:
    for kind, name in (("observation", observation), ("reward", reward)):
        if name.startswith("__main__:"):
            raise UserError(f"{kind} {name} cannot be imported by another process; put it in a file and name that: file:Name")
    return SimConfig(observation, reward, detection_m)


def _label(policy: Any) -> str:
    from tsc_marl.api.results import SavedPolicy
    from tsc_marl.tracking.policies import policy_labels

    if isinstance(policy, SavedPolicy | type):
        return policy.name if isinstance(policy, SavedPolicy) else policy.__name__
    return policy_labels([str(policy)])[str(policy)]


def _policy(policy: Any, task: "Task") -> "Policy":
    from tsc_marl.api.results import SavedPolicy
    from tsc_marl.rollout.policies import ControllerPolicy
    from tsc_marl.tracking.policies import find_policy

    if isinstance(policy, type):
        return ControllerPolicy(_import_path(policy))
    if isinstance(policy, SavedPolicy):
        policy.policy.check_network([policy.network], task.network)
    return policy.policy if isinstance(policy, SavedPolicy) else find_policy(str(policy), task)


def _import_path(kind: type) -> str:
    """Return the import path of a class, also of one that the running script defines."""
    module = kind.__module__
    if module == "__main__":
        module = Path(inspect.getfile(kind)).stem if hasattr(sys.modules["__main__"], "__file__") else ""
    if not module:
        raise UserError(f"{kind.__name__} cannot be imported by another process; put it in a file")
    return f"{module}:{kind.__name__}"

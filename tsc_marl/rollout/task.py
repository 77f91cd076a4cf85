"""Task: network, signal timing, demand and disturbances of an episode."""

import copy
from dataclasses import dataclass, field
from typing import Annotated

import torch
import tyro

from tsc_marl.sim import metrics, road_network
from tsc_marl.sim import scenario as scenarios
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.observations import Observation
from tsc_marl.sim.observations.movements import PHASE_FEATURES, SIGNAL_FEATURES, MovementsObservation
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.types import Movements, Spec

MetricNames = Annotated[
    tuple[str, ...],
    tyro.conf.arg(help=f"Further columns of the tables: {', '.join(metrics.available())}, or {metrics.PATHS}."),
]
"""Metrics by name; the type of the option `--metrics`."""


@dataclass(frozen=True)
class Task:
    """A road network with signal timing, demand and disturbances, with the observation and reward of policies."""

    network: str
    """A name, a folder with a scenario.yaml, or a `.sumocfg` file; the attribute is the plain name."""
    timing: Timing = field(default_factory=Timing)
    sim: SimConfig = field(default_factory=SimConfig)
    demand: Demand = field(default_factory=Demand)
    disturbance: Disturbance = field(default_factory=Disturbance)
    metrics: MetricNames = ()
    """Metrics that stand in tables; those with an import path are measured beside the files of `sim/metrics/`."""
    scenario: scenarios.Scenario = field(init=False, repr=False)
    """The network's files and window, so that workers need not look for them."""

    def __post_init__(self) -> None:
        """Read the scenario and import the metrics.

        Raises:
            UserError: when there is no such network, its files are missing, or a metric cannot be used.
        """
        metrics.check(self.metrics)
        loaded = scenarios.load(self.network)
        object.__setattr__(self, "scenario", loaded)
        object.__setattr__(self, "network", loaded.name)

    def net(self) -> RoadNetwork:
        """Return the road network; a process reads it once.

        Raises:
            UserError: when the network file cannot be used.
        """
        return road_network.of(self.scenario, self.sim.detection_m)

    @property
    def decisions(self) -> int:
        """Decisions of an episode."""
        return -(-self.scenario.duration_s // self.timing.decision_s)

    def moved(self, loaded: scenarios.Scenario) -> "Task":
        """Return the task with the same scenario in another place; this machine need not know the network's name."""
        other = copy.copy(self)
        object.__setattr__(other, "scenario", loaded)
        return other

    def env(self, net: RoadNetwork | None = None) -> TrafficEnv:
        """Return the environment; no simulation runs yet. `net` is the task's road network, where it was read before."""
        return TrafficEnv(self.scenario, self.timing, self.sim, self.demand, self.disturbance, net)


def check_task(task: Task) -> tuple[str, ...]:
    """Read a task's files before anything starts; return notes on its signals, a line each.

    Raises:
        UserError: for files that cannot be used, and a timing or an observation that the network or the disturbance refuses.
    """
    scenarios.scheduled(task.scenario)
    net = task.env().net
    for signal in net.signals:
        signal.timer(task.timing, 0.0)
    return net.notes


def spec_from_env(env: TrafficEnv) -> Spec:
    """Return the sizes and neighbours of an environment that has been reset once; no simulation needs to run."""
    return spec_of(env.scenario.name, env.net, env.episode.feedback.observation, env.state.shape[0])


def spec_of(name: str, net: RoadNetwork, observation: Observation, state_dim: int) -> Spec:
    """Return the sizes and neighbours of a network's signals under an observation."""
    names = tuple(signal.name for signal in net.signals)
    rank = {signal: i for i, signal in enumerate(names)}
    neighbours = tuple(tuple(rank[other] for other in signal.neighbours) for signal in net.signals)
    n_actions = max(len(signal.phases) for signal in net.signals)
    return Spec(name, names, n_actions, observation.size, state_dim, neighbours, _movements(observation))


def _movements(observation: Observation) -> Movements | None:
    if not isinstance(observation, MovementsObservation):
        return None
    structure = observation.structure
    arrays = (structure.static.astype("float32"), structure.real, structure.serves, structure.phase_real, structure.onward)
    link, real, serves, phase_real, onward = map(torch.from_numpy, arrays)
    columns = (len(observation.link_features), len(PHASE_FEATURES), len(SIGNAL_FEATURES))
    return Movements(link, real, serves, phase_real, onward, *columns)


def read_spec(task: Task, net: RoadNetwork | None = None) -> Spec:
    """Start and end one simulation to learn the sizes. Call it in a worker: libsumo stays in the process."""
    env = task.env(net)
    env.reset(0)
    env.close()
    return spec_from_env(env)

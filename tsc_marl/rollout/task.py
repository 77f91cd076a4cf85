"""Where an episode plays."""

from dataclasses import dataclass, field

from tsc_marl.sim import road_network
from tsc_marl.sim import scenario as scenarios
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.env import SimConfig, TrafficEnv
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.types import Spec


@dataclass(frozen=True)
class Task:
    """A road network with signal timing, demand and disturbances, and what policies observe and earn in it."""

    network: str
    timing: Timing = field(default_factory=Timing)
    sim: SimConfig = field(default_factory=SimConfig)
    demand: Demand = field(default_factory=Demand)
    disturbance: Disturbance = field(default_factory=Disturbance)

    def env(self) -> TrafficEnv:
        """Return the environment; no simulation runs yet."""
        return TrafficEnv(scenarios.load(self.network), self.timing, self.sim, self.demand, self.disturbance)


def check_task(task: Task) -> tuple[str, ...]:
    """Read a task's files before anything starts; return what a user should know of its signals, a line each.

    Raises:
        UserError: for files that cannot be used.
    """
    loaded = scenarios.load(task.network)
    scenarios.scheduled(loaded)
    return road_network.read(loaded.net, task.sim.detection_m).notes


def spec_from_env(env: TrafficEnv) -> Spec:
    """Return the sizes and neighbours of an environment that has been reset once; no simulation needs to run."""
    rank = {name: i for i, name in enumerate(env.names)}
    neighbours = tuple(tuple(rank[other] for other in signal.neighbours) for signal in env.net.signals)
    n_actions, state_dim = max(env.n_phases), env.state.shape[0]
    return Spec(env.scenario.name, env.names, n_actions, env.obs.shape[1], state_dim, neighbours)


def read_spec(task: Task) -> Spec:
    """Start and end one simulation to learn the sizes. Call it in a worker: libsumo stays in the process."""
    env = task.env()
    env.reset(0)
    env.close()
    return spec_from_env(env)

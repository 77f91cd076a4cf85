"""The base type of disturbances."""

from dataclasses import dataclass, fields

from tsc_marl.bounds import NaturalNumber, Scale, Share, check
from tsc_marl.errors import UserError
from tsc_marl.sim.disturbances._breakdown import Breakdown
from tsc_marl.sim.disturbances._detectors import FaultyDetectors
from tsc_marl.sim.road_network import RoadNetwork


@dataclass(frozen=True)
class Disturbance:
    """One way to disturb an episode; where and when is drawn from the episode's seed. The defaults disturb nothing.

    Raises:
        UserError: for a value out of bounds, or a default of a subclass without effect.
    """

    demand: Scale = 1.0
    """Vehicles per vehicle expected; controllers that plan ahead have planned for 1."""
    blocked_s: NaturalNumber = 0
    """A vehicle breaks down and blocks its lane for so long, after a third of the window."""
    blind: Share = 0.0
    """Share of the lanes whose detectors show nothing."""
    frozen: Share = 0.0
    """Share of the lanes whose detectors show, from some moment in the first half on, what they showed then."""
    missed: Share = 0.0
    """Probability that a vehicle is not seen at a decision."""
    stuck: NaturalNumber = 0
    """Signals that run their fixed program whatever is asked."""
    loops: Share = 0.0
    """Share of the signals whose detectors are loops at the stop line and 40 m before it: vehicles elsewhere are not seen."""
    connected: Share = 1.0
    """Share of the vehicles that are seen at all."""
    jam_s: NaturalNumber = 0
    """Every signal holds one phase for so long, before the first decision: the episode starts from a jam. The window ends as much
    later. SUMO's own programs hold nothing."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if type(self) is Disturbance:
            check(self, "disturbance.")
            return
        for setting in fields(self):
            if getattr(type(self), setting.name, setting.default) != setting.default:
                raise UserError(
                    f"disturbance {self.path}: its {setting.name} has no effect; give it a type, `{setting.name}: float = ...`, "
                    "and write @dataclass(frozen=True) above the class"
                )
        Disturbance(**{setting.name: getattr(self, setting.name) for setting in fields(Disturbance)})  # bounds of this class

    @property
    def path(self) -> str:
        """Import path of the class."""
        return f"{type(self).__module__}:{type(self).__qualname__}"

    @property
    def affects_detectors(self) -> bool:
        """Whether detectors are disturbed: by a share, or by a subclass with detectors of its own."""
        undisturbed = (self.blind, self.frozen, self.missed, self.loops, self.connected) == (0, 0, 0, 0, 1)
        return not undisturbed or type(self).detectors is not Disturbance.detectors

    @property
    def failures_are_known(self) -> bool:
        """Whether every detector that does not work is known to have failed."""
        others = (self.frozen, self.missed, self.loops, self.connected) == (0, 0, 0, 1)
        return others and type(self).detectors is Disturbance.detectors

    def detectors(self, net: RoadNetwork, seed: int, begin_s: float, duration_s: float) -> FaultyDetectors:
        """Return the detectors of an episode.

        Args:
            net: the lanes.
            seed: of the episode.
            begin_s: start of the window [s].
            duration_s: its length [s].
        """
        shares = (self.blind, self.frozen, self.missed, self.loops, self.connected)
        return FaultyDetectors(net, seed, begin_s, duration_s, *shares)

    def incident(self, net: RoadNetwork, from_s: float) -> Breakdown | None:
        """Return what happens on the road in an episode; its `apply` is called before each decision. None: nothing.

        Args:
            net: the lanes.
            from_s: a third of the window has passed [s].
        """
        return Breakdown(self.blocked_s, net, from_s) if self.blocked_s else None

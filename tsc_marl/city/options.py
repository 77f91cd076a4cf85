"""What a user may choose of a city: how roads are made from OSM, and who drives and walks."""

from dataclasses import dataclass
from pathlib import Path

from tsc_marl.bounds import NaturalNumber, NonNegative, Positive, check
from tsc_marl.errors import UserError

OURS = ("osm-files", "type-files", "output-file", "ptstop-output", "ptline-output", "ptline-clean-up", "no-warnings")
"""Options that a user may not set."""


@dataclass(frozen=True)
class RoadOptions:
    """How an OSM extract becomes a road network; without meaning for other files."""

    pedestrians: bool = False
    """Sidewalks, footways and crossings from OSM."""
    transit: bool = False
    """Stops and lines of buses and trams from OSM; each line comes every 10 min."""
    left_hand: bool = False
    """Traffic drives on the left."""
    guess_signals: bool = False
    """Signals also at busy junctions without one in OSM."""
    netconvert: tuple[str, ...] = ()
    """Further options of netconvert, which win over ours: `tls.green.time=25`, `keep-edges.in-geo-boundary=9.4,51.4,9.5,51.5`."""

    def own(self) -> dict[str, str]:
        """Return the user's options of netconvert.

        Raises:
            UserError: for one that is not `name=value`, or that this program sets.
        """
        pairs = [option.removeprefix("--").partition("=") for option in self.netconvert]
        for (name, _, value), option in zip(pairs, self.netconvert, strict=True):
            if not name or not value:
                raise UserError(f"netconvert: expected name=value, such as tls.green.time=25; got {option}")
            if name in OURS or "output" in name.split(".")[0].split("-"):
                raise UserError(f"netconvert: {name} is set by this program; leave it out")
        return {name: value for name, _, value in pairs}


@dataclass(frozen=True)
class DemandOptions:
    """Who drives and walks. Without any, the demand of the configuration; else random vehicles that load the signals well."""

    routes: tuple[Path, ...] = ()
    """SUMO route files. Vehicles and flows stay as they are, trips get their routes; with `counts` they are the routes to choose
    from."""
    counts: tuple[Path, ...] = ()
    """CSV files of counts, from which routes are sampled: edge,begin_s,end_s,count or from_edge,to_edge,begin_s,end_s,count."""
    od: Path | None = None
    """OD matrix, VISUM's $O or $V format or SUMO's tazRelation; needs `taz`."""
    taz: Path | None = None
    """SUMO's districts of the OD matrix."""
    rate: Positive | None = None
    """Random vehicles [veh/h]."""
    persons: NonNegative = 0.0
    """Random pedestrians [1/h]; they need sidewalks or footways."""
    begin_s: NaturalNumber | None = None
    """Start of the window [s]; by default that of the files, else 0."""
    end_s: NaturalNumber | None = None
    """End of the window [s]; by default that of the files, else an hour after the start."""
    seed: NaturalNumber = 0
    """Of what is drawn: random vehicles and persons, and the choice of routes for counts."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        check(self)
        given = [name for name in ("counts", "od", "rate") if getattr(self, name)]
        if len(given) > 1 or (self.routes and given and given != ["counts"]):
            raise UserError(
                f"{' and '.join((['routes'] if self.routes else []) + given)} are different demands; give one of them"
            )
        if (self.od is None) != (self.taz is None):
            raise UserError("od and taz go together: the matrix, and SUMO's file of its districts")
        if self.begin_s is not None and self.end_s is not None and self.begin_s >= self.end_s:
            raise UserError(f"begin_s {self.begin_s} must be before end_s {self.end_s}")
        for path in (*self.routes, *self.counts, *filter(None, (self.od, self.taz))):
            if not path.is_file():
                raise UserError(f"{path}: no such file; correct the path")

    @property
    def any(self) -> bool:
        """Whether it says which vehicles drive."""
        return bool(self.routes or self.counts or self.od or self.rate)

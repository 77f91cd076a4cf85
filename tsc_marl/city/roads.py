"""From an OSM extract to a SUMO network: netconvert with the options that SUMO recommends for OSM."""

from pathlib import Path

from tsc_marl.city.options import RoadOptions
from tsc_marl.generator import sumo_programs
from tsc_marl.sim.engine import binary

OSM = {
    "geometry.remove": "true",
    "ramps.guess": "true",
    "roundabouts.guess": "true",
    "junctions.join": "true",
    "tls.join": "true",
    "tls.guess-signals": "true",
    "tls.discard-simple": "true",
    "osm.turn-lanes": "true",
    "output.street-names": "true",
}
"""Those of osmWebWizard, with roundabouts and the arrows on lanes."""
WALKING = {"osm.sidewalks": "true", "crossings.guess": "true"}
STOPS, LINES = "stops.add.xml", "lines.xml"


def options(chosen: RoadOptions) -> dict[str, str]:
    """Return netconvert's options, files left out.

    Raises:
        UserError: as `RoadOptions.own`.
    """
    made = OSM | (WALKING if chosen.pedestrians else {})
    if chosen.left_hand:
        made["lefthand"] = "true"
    if chosen.guess_signals:
        made["tls.guess"] = "true"
    return made | chosen.own()


def convert(osm: Path, net: Path, chosen: RoadOptions) -> list[str]:
    """Write the network of an OSM extract, and with `transit` its stops and lines beside it; return netconvert's warnings.

    Raises:
        UserError: when netconvert refuses it, or no road is left.
    """
    types = Path(binary("netconvert")).parents[1] / "data" / "typemap"
    names = ["osmNetconvert", *(["osmNetconvertUrbanDe", "osmNetconvertPedestrians"] if chosen.pedestrians else [])]
    files = {
        "osm-files": str(osm),
        "type-files": ",".join(str(types / f"{name}.typ.xml") for name in names),
        "output-file": str(net),
    }
    if chosen.transit:
        files |= {
            "ptstop-output": str(net.with_name(STOPS)),
            "ptline-output": str(net.with_name(LINES)),
            "ptline-clean-up": "true",
        }
    advice = "correct the extract, or set options with --netconvert"
    return sumo_programs.call("netconvert", options(chosen) | files, advice)

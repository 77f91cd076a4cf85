"""The page on a new network: map, warnings, fit of counts, and each signal's phases."""

from collections.abc import Sequence
from importlib import resources

import jinja2
from sumolib.net import Net

from tsc_marl.city import counts, drawings, findings
from tsc_marl.city.counts import Count
from tsc_marl.city.findings import Finding
from tsc_marl.sim.scenario import Scenario, scheduled
from tsc_marl.sim.signal_sheet import SignalSheet

FILE = "city.html"


def text(
    scene: Scenario, net: Net, sheets: Sequence[SignalSheet], faults: Sequence[Finding], fit: Sequence[tuple[Count, int]],
    lines: Sequence[str], command: str,
) -> str:  # fmt: skip
    """Return the page: one HTML file that needs no other file and no network.

    Args:
        scene: the network's scenario.
        net: its roads.
        sheets: its signals.
        faults: warnings.
        fit: counts with modelled vehicles.
        lines: about the demand.
        command: the command line that made the network.
    """
    loader = jinja2.PackageLoader("tsc_marl.city", ".")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template("page.html")
    return template.render(
        scene=scene,
        vehicles=scheduled(scene),
        sheets=sheets,
        numbers={sheet.name: number for number, sheet in enumerate(sheets, 1)},
        faults=faults,
        kinds=findings.KINDS,
        fit=fit,
        verdict=counts.verdict(fit) if fit else "",
        lines=lines,
        command=command,
        map=drawings.city_map(net, sheets, [finding.signal for finding in faults if finding.kind != "short"]),
        draw=drawings.phase,
        style=resources.files("tsc_marl.viz.show").joinpath("page.css").read_text(encoding="utf-8"),
    )

"""Reading, drawing, writing and logging the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from rich.table import Table

from tsc_marl import console, seeds
from tsc_marl.analysis import compare
from tsc_marl.analysis.compare import COMPARABLE_SETTINGS, Comparison
from tsc_marl.errors import UserError
from tsc_marl.report import curves, print_plots, signal_plots
from tsc_marl.report.network_data import NetworkResults, find
from tsc_marl.report.style import series_styles
from tsc_marl.report.verdict import Verdict, verdicts
from tsc_marl.tracking.store import Tracker, versions

TEMPLATE = "page.html"
SHOWN = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"]}


@dataclass(frozen=True)
class Section:
    """One network on the page."""

    findings: NetworkResults
    answers: list[Verdict]
    figures: dict[str, str]
    """HTML by name; those without data are left out."""


def run(comparisons: Sequence[Comparison], reference: str | None, out: Path, command: str) -> None:
    """Write the page to `out`, the figures for a paper beside it, and log both to MLflow.

    Args:
        comparisons: a section each.
        reference: what the others are compared with, as `Comparison.reference` has it.
        out: the page.
        command: the line that makes the page again, to be told on it.

    Raises:
        UserError: when the reference was not trained on one of them, or the files cannot be written.
    """
    found = [find(comparison, reference) for comparison in comparisons]
    look = series_styles([name for findings in found for name in findings.groups])
    sections = [_section(findings, look) for findings in found]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text(sections, command))
        console.say("drawing the plots")
        drawn = print_plots.draw(out.parent, found, look)
    except OSError as error:
        raise UserError(f"report {out} cannot be written ({error.strerror}); give another file with --out") from None
    for section, files in zip(sections, drawn, strict=True):
        for answer in section.answers:
            console.say(f"{answer}\n")
        _log(section, [out, *files], command)
    together = ", all_networks" if len(found) > 1 else ""
    console.say(
        f"report: {out}\nfigures for a paper: {out.parent}/<network>_learning_curves and _final_delay{together}, .png and .pdf"
    )


def _section(findings: NetworkResults, look: dict[str, Any]) -> Section:
    drawn = {
        "curves": curves.learning_curves(findings, look), "final": curves.final_delays(findings, look),
        "map": signal_plots.change_map(findings), "credit": signal_plots.credit_panels(findings),
    }  # fmt: skip
    html = {name: _html(figure, f"{findings.network}-{name}") for name, figure in drawn.items() if figure is not None}
    return Section(findings, verdicts(findings), html)


def text(sections: Sequence[Section], command: str) -> str:
    """Return the page: one HTML file that needs no other and no network."""
    loader = jinja2.PackageLoader("tsc_marl.report", ".")
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(TEMPLATE)
    return template.render(
        sections=sections, command=command, made=f"{datetime.now():%Y-%m-%d %H:%M}", versions=versions(), plotly=get_plotlyjs(),
        table=lambda findings: _cells(compare.table(findings.comparison, findings.reference)), shared=_shared, commands=_commands,
        train_seeds=seeds.TRAIN_SEEDS, level=compare.THRESHOLD_CONTROLLER, caution=compare.caveats,
    )  # fmt: skip


def _html(figure: go.Figure, name: str) -> str:
    return figure.to_html(full_html=False, include_plotlyjs=False, config=SHOWN, div_id=name)


def _cells(table: Table) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return header and rows of a terminal's table."""
    header = [str(column.header) for column in table.columns]
    return header, [tuple(map(str, row)) for row in zip(*(column.cells for column in table.columns), strict=True)]


def _shared(findings: NetworkResults) -> str:
    """Return the settings that all trainings of a network share, as their command line has them."""
    settings = findings.first.settings
    return ", ".join(
        f"{key} {settings[key]}" for key in sorted(settings) if key.startswith(COMPARABLE_SETTINGS) and key != "SUMO"
    )


def _commands(findings: NetworkResults) -> list[str]:
    """Return the command lines of the trainings; those of older versions did not keep them."""
    return list(dict.fromkeys(training.tags.get("command", "") for training in findings.trainings))


def _log(section: Section, files: Sequence[Path], command: str) -> None:
    """Keep the page as a run of the network's experiment, with the answer as its description."""
    network = section.findings.network
    tracker = Tracker(network)
    tags = {"kind": "report", "network": network, "command": command}
    run = tracker.start(f"report on {', '.join(section.findings.groups)}", tags, {})
    tracker.describe(run, "\n\n".join(f"**{answer.verdict}** {answer.figures}" for answer in section.answers))
    for path in files:
        tracker.artifact(run, path)
    tracker.end(run, "FINISHED")

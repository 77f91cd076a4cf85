"""The report: reading, drawing, writing and logging."""

import base64
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import jinja2

from tsc_marl.analysis import compare, summaries
from tsc_marl.analysis.compare import COMPARABLE_SETTINGS, Comparison
from tsc_marl.errors import UserError
from tsc_marl.evaluation.tables import cells
from tsc_marl.paths import file_name
from tsc_marl.report import overview, panels, print_plots, sentences, signal_plots, svg
from tsc_marl.report.network_data import NetworkResults, read
from tsc_marl.report.overview import OverallAnswer
from tsc_marl.report.plots import AXES, Style, series_styles
from tsc_marl.report.svg import PagePanel
from tsc_marl.report.verdict import Verdict, verdicts
from tsc_marl.sim import seeds
from tsc_marl.tracking.store import Tracker, versions
from tsc_marl.viz.engineering.sheet import DPI

log = logging.getLogger(__name__)

TEMPLATE = "page.html"
PICTURE_TITLES = {
    "time_space": "Time-space diagram: vehicles along the busiest corridor, reds at its stop lines, green bands",
    "splits": "Share of green of each phase, and cycle lengths, of each signal",
    "queues": "Vehicles that halt or wait to enter, on the approaches with the longest queues",
    "level_of_service": "Control delay and level of service of signals and approaches",
}


@dataclass(frozen=True)
class Section:
    """One network on the page."""

    results: NetworkResults
    verdicts: list[Verdict]
    texts: list[tuple[str, str]]
    """Headline and evidence of each of them."""
    first: list[str]
    """Groups that are shown without a click."""
    plots: dict[str, list[PagePanel]]
    """Panels of each figure by name; a figure without data has none. Those behind the click end with `_all`."""


def run(comparisons: Sequence[Comparison], reference: str | None, out: Path, command: str) -> None:
    """Write the page, and beside it the plots for a paper; log both to MLflow.

    Args:
        comparisons: a section each.
        reference: the group that the others are compared with, as `Comparison.reference` takes it.
        out: file of the page.
        command: the command line that makes the page again; the page shows it.

    Raises:
        UserError: when the reference was not trained on one of the networks, or the files cannot be written.
    """
    networks = [read(comparison, reference) for comparison in comparisons]
    styles = series_styles(networks)
    log.info("drawing the page")
    sections = [_section(results, styles) for results in networks]
    answer = overview.answer([(section.results, section.verdicts) for section in sections])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text(sections, answer, styles, command), encoding="utf-8")
        log.info("drawing the plots")
        files = print_plots.draw(out.parent, networks, styles)
    except OSError as error:
        raise UserError(f"report {out} cannot be written ({error.strerror}); give another file with --out") from None
    log.info("%s\n", " ".join(filter(None, [answer.sentence, answer.support, answer.tests])))
    for section, plots in zip(sections, files, strict=True):
        for headline, evidence in section.texts:
            log.info("%s %s\n", headline, evidence)
        _log_run(section, [out, *plots], command)
    together = ", all_networks" if len(networks) > 1 else ""
    log.info("report: %s", out)
    log.info("plots for a paper: %s/<network>_learning_curves and _final_delay%s, .png and .pdf", out.parent, together)


def _section(results: NetworkResults, styles: Mapping[str, Style]) -> Section:
    judged, every, maps = verdicts(results), list(results.groups), signal_plots.change_maps(results)
    first = overview.shown_first(results, judged)
    plots = {
        "curves": [*panels.highlighted(results, styles, first), panels.together(results, styles, first, "minutes")],
        "final": panels.ends(results, styles, first),
        "map": [maps[name] for name in first if name in maps],
        "credit": signal_plots.credit_panels(results, first),
    }
    if len(every) > len(first):
        plots |= {
            "curves_all": [panels.together(results, styles, every, key) for key in AXES],
            "final_all": panels.ends(results, styles, every),
            "map_all": [panel for name, panel in maps.items() if name not in first],
        }
    texts = [(sentences.headline(results, verdict), sentences.evidence(results, verdict)) for verdict in judged]
    return Section(results, judged, texts, first, plots)


def text(sections: Sequence[Section], answer: OverallAnswer, styles: Mapping[str, Style], command: str) -> str:
    """Return the page: one HTML file that needs no other file, no network and no script."""
    loader = jinja2.PackageLoader("tsc_marl.report", ".")
    templates = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters["file_name"] = file_name
    templates.filters["inches"] = lambda png: int.from_bytes(png[16:20]) / DPI  # the width in the header of the file
    return templates.get_template(TEMPLATE).render(
        sections=sections,
        answer=answer,
        overview=overview.figure([(section.results, section.first) for section in sections], styles),
        styles=styles,
        dashes={"-": "solid", "--": "dashed", ":": "dotted", "-.": "double"},
        inline=svg.inline,
        command=command,
        made=f"{datetime.now():%Y-%m-%d %H:%M}",
        versions=versions(),
        table=_table,
        shared=_shared_settings,
        commands=_commands,
        train_seeds=seeds.TRAIN_SEEDS,
        threshold_controller=compare.THRESHOLD_CONTROLLER,
        caveats=summaries.caveats,
        origins=summaries.origins,
        picture_titles=PICTURE_TITLES,
        base64=lambda content: base64.b64encode(content).decode(),
    )


def _table(results: NetworkResults) -> tuple[list[str], dict[str, list[str]]]:
    """Return the titles of the comparison, and its rows by group."""
    columns = summaries.columns(results.reference)
    rows = {name: cells(columns, {"algorithm": name, **vars(summary)}) for name, summary in results.summaries.items()}
    return [column.title for column in columns], rows


def _shared_settings(results: NetworkResults) -> str:
    """Return the settings that all trainings of a network share."""
    settings = results.first.settings
    names = [key for key in sorted(settings) if key.startswith(COMPARABLE_SETTINGS) and key != "SUMO"]
    return ", ".join(f"{name} {settings[name]}" for name in names)


def _commands(results: NetworkResults) -> list[str]:
    """Return the command lines of the trainings; empty for those of older versions, which did not store them."""
    return list(dict.fromkeys(training.tags.get("command", "") for training in results.trainings))


def _log_run(section: Section, files: Sequence[Path], command: str) -> None:
    """Log the page as a run of the network's experiment, with the verdicts as its description."""
    network = section.results.network
    tracker = Tracker(network)
    tags = {"kind": "report", "network": network, "command": command}
    run = tracker.start(f"report on {', '.join(section.results.groups)}", tags, {})
    tracker.describe(run, "\n\n".join(f"**{headline}** {evidence}" for headline, evidence in section.texts))
    for path in files:
        tracker.artifact(run, path)
    tracker.end(run, "FINISHED")

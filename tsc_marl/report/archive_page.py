"""README.md of an export: the tables of its trainings, as Markdown."""

import html
import re
from collections.abc import Mapping
from typing import Any

import jinja2
import numpy as np

from tsc_marl.analysis import compare, summaries
from tsc_marl.analysis.compare import Comparison, RunFilter, Training
from tsc_marl.errors import UserError
from tsc_marl.evaluation import tables

TEMPLATE = "archive.md.jinja"
Section = Mapping[str, Any]
"""Values of a network's section, by their names in the template."""


def section(network: str, choice: RunFilter) -> Section:
    """Return the section of a network's trainings; where they cannot stand in one table, the reason."""
    try:
        return _compared(compare.load(network, choice))
    except UserError as error:
        return {"network": network, "problem": str(error)}


def text(sections: Mapping[str, Section], command: str, before: str = "") -> str:
    """Return the page, one section a network in the order of their names.

    Args:
        sections: the sections by network.
        command: the command line that writes the page again.
        before: the page that this one replaces; the sections of other networks stay.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tsc_marl.report", "."), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"plain": plain, "code": code}
    kept = {old.splitlines()[0]: f"## {old.strip()}" for old in before.split("\n\n## ")[1:]}
    every = kept | {plain(network): of_network for network, of_network in sections.items()}
    return environment.get_template(TEMPLATE).render(command=command, sections=[every[name] for name in sorted(every)])


def plain(value: str) -> str:
    """Return a text on one line, for a paragraph, a heading or a cell of Markdown: no character of it is markup."""
    escaped = html.escape(" ".join(value.splitlines()), quote=False)
    return re.sub(r"[\\`*\[\]|#~]|(?<!\w)_|_(?!\w)", lambda found: f"&#{ord(found[0])};", escaped)


def code(value: str) -> str:
    """Return a text as code on one line, for a paragraph or a cell of Markdown."""
    return f"<code>{plain(value)}</code>" if re.search(r"[`|]", value) else f"`{' '.join(value.splitlines())}`"


def _compared(comparison: Comparison) -> Section:
    """Return the section of trainings that can be compared."""
    first = comparison.trainings[0]
    results = summaries.summarise(comparison, comparison.reference())
    return {
        "network": comparison.network,
        "episodes": f"{first.curve['episode'][-1]:.0f}",
        "decisions": f"{first.curve['steps'][-1]:.0f}",
        "eval_seeds": first.settings["eval_seeds"],
        "sumo": first.settings["SUMO"],
        "commits": sorted({training.commit for training in comparison.trainings}),
        "groups": [_group(name, comparison.groups[name], summary) for name, summary in results.items()],
        "controllers": [(name, f"{delay:.1f}") for name, delay in sorted(comparison.baseline_delays.items(), key=lambda x: x[1])],
    }


def _group(name: str, trainings: list[Training], summary: summaries.Summary) -> Mapping[str, str]:
    """Return the cells of a row."""
    return {
        "name": name,
        "seeds": ", ".join(str(training.seed) for training in trainings),
        "delay": f"{summary.delay:.1f}",
        "interval": tables.span(summary.interval),
        "of_each_seed": ", ".join(f"{training.delay.mean():.1f}" for training in trainings),
        "reached": ", ".join(f"{episode:.0f}" if np.isfinite(episode) else "never" for episode in summary.episodes),
        "training_delay": f"{summary.training_delay:.0f}",
        "minutes": f"{np.median([training.curve['minutes'][-1] for training in trainings]):.1f}",
        "gridlock": f"{summary.gridlock:.0%}",
    }

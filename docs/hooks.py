"""Build hooks of the site: `cli.md` from the help texts of the command line, tables of metrics from their classes."""

import contextlib
import functools
import inspect
import io
import os
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tsc_marl.cli.main import main
from tsc_marl.sim import metrics

COLUMNS = "84"
INTRODUCTION = """# Command line

In a clone, `make VERB` prints and runs `python -m tsc_marl VERB`. An installed wheel has the script `tsc-marl VERB`.
The build of this site reads the texts below from the program.
Nested settings of a verb have a dot: `--timing.yellow-s 3`.
"""
METRIC_TABLES = {"<!-- metrics of every episode -->": False, "<!-- metrics of evaluations -->": True}
"""Places of the tables in a page, and whether the table has the detailed metrics."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page of the command line."""
    files.append(File.generated(config, "cli.md", content=_page()))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Fill in the tables of metrics, and put unbreakable spaces into intervals such as `1.5 .. 2.0`."""
    for marker, detailed in METRIC_TABLES.items():
        if marker in markdown:
            markdown = markdown.replace(marker, _metric_table(detailed))
    return markdown.replace(" .. ", "\N{NO-BREAK SPACE}..\N{NO-BREAK SPACE}")


@functools.cache
def _page() -> str:
    """Return the page in Markdown: one section a verb, in the order of the program."""
    verbs = re.findall(r"^ {2,}([a-z][a-z-]*) {2,}\S", _help(), re.MULTILINE)
    if not verbs:
        raise RuntimeError("`python -m tsc_marl --help` lists no verbs; cannot write cli.md")
    return INTRODUCTION + "".join(f"\n## {verb}\n\n```text\n{_plain(_help(verb))}\n```\n" for verb in verbs)


def _help(*verb: str) -> str:
    """Return the help text of the program, or of one verb."""
    os.environ.update(COLUMNS=COLUMNS, NO_COLOR="1", TERM="dumb")
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as text:  # its frames need an encoding
        try:
            code = main([*verb, "--help"])
        except SystemExit as ended:
            code = ended.code
    if code:
        raise RuntimeError(f"`python -m tsc_marl {' '.join(verb)} --help` ends with {code}; cannot write cli.md")
    text.seek(0)
    return text.read()


def _metric_table(detailed: bool) -> str:
    """Return a table in Markdown with a row for each metric of the folder."""
    lines = ["| metric | formula | unit | SUMO file |", "|---|---|---|---|"]
    for name in metrics.available():
        kind = metrics.find(name)
        if kind.detailed == detailed:
            formula = inspect.getdoc(kind) or ""
            lines.append(f"| `{name}` | {' '.join(formula.split()).rstrip('.')} | {kind.unit} | {kind.source} |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a help text without the frames around its groups of options."""
    lines = []
    for line in text.splitlines():
        if title := re.match(r"╭─ (.+?) ─*╮", line):
            lines += ["", f"{title[1]}:"]
        elif not line.startswith("╰") and not re.fullmatch(r"│ ─+ │", line):
            lines.append(re.sub(r"^│ ?|\s*│$", "", line).rstrip())
    return "\n".join(lines).strip()

"""Names of metrics that MLflow takes, made of names that come from files, such as those of signals."""

import posixpath
import re
from collections.abc import Iterable

from tsc_marl.paths import digest, file_name

LONGEST = 250
"""Characters of a name."""
LONGEST_END = 80
"""Characters of the parts of a name with a digest."""


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """Return the name for MLflow of each metric; different names stay different.

    A legal name stays as it is: word characters, `/`, `.`, `-`, `:` and spaces, at most `LONGEST`. Every other character
    becomes its hexadecimal code between two `-`, as in `file_name`. A name that would be too long, no path, or taken has a
    digest in front of its last part.

    >>> metric_names(["agent/A0/reward", "agent/cluster_1_#2more/reward"])
    {'agent/A0/reward': 'agent/A0/reward', 'agent/cluster_1_#2more/reward': 'agent/cluster_1_-23-2more/reward'}
    """
    names = list(names)
    legal = {name: re.sub(r"[^/\w.\- :]", lambda match: file_name(match[0]), name) for name in names}
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(names, key=lambda name: legal[name] != name):  # those that stay first
        short = legal[name]
        if len(short) > LONGEST or not _is_path(short) or short in taken:
            short = _with_digest(name)
        result[name] = short
        taken.add(short)
    return {name: result[name] for name in names}


def _is_path(name: str) -> bool:
    return posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."


def _with_digest(name: str) -> str:
    front, _, last = name.rpartition("/")
    if not front:
        return f"{_part(last)}-{digest(name)}"
    first, _, middle = front.partition("/")
    whole = front if 0 < len(file_name(last)) <= LONGEST_END else name  # the metrics of one signal share a digest
    return "/".join(filter(None, (_part(first), f"{_part(middle)}-{digest(whole)}", _part(last))))


def _part(text: str) -> str:
    short = file_name(text)[:LONGEST_END]
    return digest(text) if text and (short.startswith("..") or not short.strip(".")) else short

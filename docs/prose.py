"""Check the prose of README, docs and docstrings: sentence lengths, and phrases that no reader understands.

Usage: python docs/prose.py [FILE ...]. Without files it checks the README, the pages in docs/ and the package's docstrings.
Exit code 1 means that a group is above a limit or has a banned phrase. Code, tables and headings do not count.
"""

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MEDIAN_WORDS, P90_WORDS = 18, 30
BANNED = ("told", "comes true", "makes up its mind", "the document", "the first text")
SKIPPED = ("api", "trainings")
"""Folders of docs/ that a program fills."""


def main(names: list[str]) -> int:
    """Print one line a group, and the offences; return the exit code."""
    groups = {"files": list(map(Path, names))} if names else _groups()
    failures: list[str] = []
    for group, paths in groups.items():
        sentences = [(path, sentence) for path in paths for block in _blocks(path) for sentence in _sentences(block)]
        failures += [f'{path}: "{phrase}" in: {text}' for path, text in sentences for phrase in BANNED if _contains(text, phrase)]
        failures += _lengths(group, [_count(text) for _, text in sentences])
        if names:
            for path, text in sorted(sentences, key=lambda pair: -_count(pair[1])):
                if _count(text) > P90_WORDS:
                    print(f"  {_count(text)} words, {path}: {text}")
    print("\n".join(failures))
    return 1 if failures else 0


def _groups() -> dict[str, list[Path]]:
    pages = [path for path in sorted((ROOT / "docs").rglob("*.md")) if path.relative_to(ROOT / "docs").parts[0] not in SKIPPED]
    others = [path for path in (ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md") if path.exists()]
    return {"README": [ROOT / "README.md"], "docs": pages + others, "docstrings": sorted((ROOT / "tsc_marl").rglob("*.py"))}


def _lengths(group: str, words: list[int]) -> list[str]:
    """Print the sentence lengths of a group; return what is above a limit."""
    if len(words) < 2:
        return []
    median, p90 = statistics.median(words), statistics.quantiles(words, n=10)[-1]
    print(f"{group}: {len(words)} sentences, median {median:.0f} words, 90th percentile {p90:.0f}, longest {max(words)}")
    limits = (("median", median, MEDIAN_WORDS), ("90th percentile", p90, P90_WORDS))
    return [f"{group}: {name} {value:.0f} words, at most {limit}" for name, value, limit in limits if value > limit]


def _blocks(path: Path) -> Iterator[str]:
    """Yield the paragraphs of a file: Markdown, or the docstrings of a Python module."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for docstring in _docstrings(ast.parse(text)):
            yield from _paragraphs(docstring)
    else:
        yield from _paragraphs(re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL))


def _docstrings(tree: ast.AST) -> Iterator[str]:
    """Yield the strings that stand alone as a statement: docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def _paragraphs(text: str) -> Iterator[str]:
    """Yield paragraphs and list items; leave out code, tables, headings, comments and directives."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2 *$|<!--.*?-->", "\n", text, flags=re.DOTALL | re.MULTILINE)
    lines: list[str] = []
    for line in [*text.splitlines(), ""]:
        plain = line.strip()
        left_out = not plain or plain.startswith(("|", "#", "!!!", "???", ":::", "--8<--", "<"))
        starts = re.match(r"([-*]|\d+\.) |\w+: ", plain)
        if (left_out or starts) and lines:
            yield " ".join(lines)
            lines = []
        if not left_out:
            lines.append(re.sub(r"^([-*]|\d+\.) ", "", plain))


def _sentences(block: str) -> Iterator[str]:
    """Yield the sentences of a paragraph, an inline code or a link as its text."""
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", block)
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]+`", "code", text).replace("*", "")
    for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z\"(]|code)", text):
        if _count(sentence) > 2:
            yield sentence


def _count(sentence: str) -> int:
    return len(re.findall(r"[^\W\d_][\w'’-]*", sentence))


def _contains(sentence: str, phrase: str) -> bool:
    return re.search(rf"\b{phrase}\b", sentence, re.IGNORECASE) is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

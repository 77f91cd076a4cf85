"""The shape of the package: layers that name every module, small modules and functions, names that say something."""

import ast
import io
import tokenize
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tsc_marl"
SOURCES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}
FILLERS = ("found", "told", "known", "said")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def contracts(kind):
    with (ROOT / "pyproject.toml").open("rb") as file:
        every = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return [contract for contract in every if contract["type"] == kind]


def layers():
    """Names of the layers' modules, without the parentheses of optional ones."""
    (contract,) = contracts("layers")
    return [name.strip(" ()") for layer in contract["layers"] for name in layer.split("|")]


def test_every_module_of_the_top_level_stands_in_one_layer():
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name: count for name, count in Counter(layers()).items() if count > 1} == {}
    assert set(layers()) >= modules | packages


def test_layers_name_only_what_exists():
    (contract,) = contracts("layers")
    required = {name.strip() for layer in contract["layers"] for name in layer.split("|") if "(" not in name}
    missing = {name for name in required if not (PACKAGE / f"{name}.py").is_file() and not (PACKAGE / name).is_dir()}
    assert missing == set()


def test_contracts_name_only_what_exists():
    for contract in contracts("forbidden"):
        for name in contract["source_modules"]:
            path = ROOT / name.removesuffix(".*").replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), f"{contract['name']}: {name}"


def test_the_top_level_has_few_modules_beside_the_packages():
    modules = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))
    assert len(modules) <= 10, modules


def test_no_class_name_is_defined_twice():
    names = Counter(node.name for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef))
    assert {name: count for name, count in names.items() if count > 1} == {}


def code_lines(name):
    """Numbers of the lines with code: without blank lines, comments and docstrings."""
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(SOURCES[name]).readline):
        if token.type not in blank:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


@pytest.mark.parametrize("name", SOURCES)
def test_modules_and_functions_are_small(name):
    lines = code_lines(name)
    assert len(lines) <= 250
    for node in ast.walk(TREES[name]):
        if isinstance(node, FUNCTIONS):
            size = len(lines & set(range(node.lineno, (node.end_lineno or node.lineno) + 1)))
            assert size <= 40, f"{node.name} has {size} lines"


def test_names_say_what_a_value_is():
    uses = Counter()
    for name, tree in TREES.items():
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        names += [node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)]
        uses[name] = sum(used in FILLERS for used in names)
    assert sum(uses.values()) < 30, {name: count for name, count in uses.items() if count}


@pytest.mark.parametrize("name", SOURCES)
def test_text_files_are_utf_8_in_every_locale(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text"):
            assert any(keyword.arg == "encoding" for keyword in node.keywords), f"{name}:{node.lineno}"

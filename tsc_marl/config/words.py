"""Settings as words of a command line: those of YAML files, and the values of an option."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from tsc_marl import old_options
from tsc_marl.errors import UserError
from tsc_marl.paths import read_yaml


def from_yaml(path: Path, prefix: str = "") -> list[str]:
    """Turn a YAML file of settings into the command line that says the same.

    Raises:
        UserError: when it is not YAML, or no settings.
    """
    return old_options.replace(words_of(settings_in(path), prefix), str(path))


def settings_in(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file of settings.

    Raises:
        UserError: when it is not YAML, or no settings.
    """
    raw = read_yaml(path) or {}
    if not isinstance(raw, dict):
        raise UserError(f"{path}: expected settings as `name: value`; got {type(raw).__name__}")
    return raw


def words_of(raw: dict[str, Any], prefix: str) -> list[str]:
    """Return settings as words of a command line, `--<prefix><name> value`."""
    argv: list[str] = []
    for name, value in raw.items():
        option = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, dict):
            argv += words_of(value, f"{prefix}{name}.")
        else:
            argv += [f"--{option}", *map(str, value if isinstance(value, list | tuple) else [value])]
    return argv


def values_of(argv: list[str], option: str) -> list[str]:
    """Return what follows the last occurrence of an option."""
    values: list[str] = []
    for i, word in enumerate(argv):
        if word.split("=")[0] == option:
            values = word.split("=")[1:] or list(itertools.takewhile(_is_value, argv[i + 1 :]))
    return values


def with_switches(argv: Sequence[str], options: Any) -> list[str]:
    """Return a command line in which every switch has its value: `--plots` alone means `--plots True`.

    Args:
        argv: words of the command line.
        options: dataclass of the verb; its fields of type bool, and those of its dataclasses, are switches.
    """
    switches, following = set(_switches(options)), [*argv, "--"][1:]
    alone = [word in switches and not _is_value(after) for word, after in zip(argv, following, strict=True)]
    return [part for word, is_alone in zip(argv, alone, strict=True) for part in ([word, "True"] if is_alone else [word])]


def _switches(kind: Any, prefix: str = "--") -> Iterator[str]:
    """Yield the names of the options of type bool."""
    origin: Any = get_origin(kind) or kind
    if not dataclasses.is_dataclass(origin):
        return
    given: dict[Any, Any] = dict(zip(getattr(origin, "__parameters__", ()), get_args(kind), strict=True))
    for field in dataclasses.fields(origin):
        of, name = given.get(field.type, field.type), field.name.replace("_", "-")
        if get_origin(of) is Annotated:
            of, argument = get_args(of)[:2]
            name = name if getattr(argument, "name", None) is None else argument.name
        if of is bool:
            yield f"{prefix}{name}"
        else:
            yield from _switches(of, f"{prefix}{name}." if name else prefix)


def _is_value(word: str) -> bool:
    return not word.startswith("--")

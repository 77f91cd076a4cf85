"""JSON files that this program writes and reads back: a checksum of the content inside, checked with a schema when read."""

import difflib
import hashlib
import json
import os
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tsc_marl.errors import UserError

CHECKSUM = "sha256"
"""Key of the checksum, beside those of the content. Earlier versions wrote none."""


def dumps(content: Mapping[str, Any]) -> str:
    """Return content as JSON with its checksum."""
    return json.dumps({CHECKSUM: _digest(json.dumps(content)), **content}, indent=1)


def loads(text: str | bytes, schema: Any) -> Any:
    """Return the content of a JSON text, as it stands there, without its checksum.

    Args:
        text: result of `dumps`, or JSON of an earlier version, without checksum.
        schema: any type that pydantic can check.

    Raises:
        ValueError: in one line, when it is no JSON, differs from its checksum, or does not follow the schema.
    """
    try:
        content = json.loads(text)
        sealed = isinstance(content, dict) and CHECKSUM in content
        checksum = content.pop(CHECKSUM) if sealed else None
        canonical = json.dumps(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if sealed and checksum != _digest(canonical):
        raise ValueError(f"its content differs from its checksum {CHECKSUM}")
    if isinstance(content, dict) and difflib.get_close_matches(CHECKSUM, content):
        raise ValueError(f"the name of its checksum {CHECKSUM} is damaged")
    try:
        TypeAdapter(schema).validate_json(canonical, strict=True)
    except ValidationError as error:
        raise ValueError(first_line(error)) from None
    return content


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write content as JSON with its checksum; a crash in the middle leaves the last file whole.

    Raises:
        UserError: when the disk does not take it.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_text(dumps(content), encoding="utf-8")
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror}); free some disk space and try again") from None


def read(path: Path, schema: Any, advice: str) -> Any:
    """Return the content of a file of `write`, or of an earlier version, without its checksum.

    Args:
        path: the file.
        schema: as for `loads`.
        advice: what to do when the file is damaged.

    Raises:
        UserError: when it cannot be read, is damaged, or has another content than the schema.
    """
    try:
        return loads(path.read_bytes(), schema)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or of another kind ({' '.join(str(error).split())[:300]}); {advice}") from None


def dataclass_from(kind: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Return a dataclass of settings from what JSON has of it; lists become tuples, and mappings dataclasses of their own.

    Args:
        kind: the dataclass.
        values: by the names of its fields; those left out have their defaults.
        prefix: before the name of a setting in the message, such as `algo.`.

    Raises:
        ValueError: in one line, for a name without a field, or a value of another type than its field.
        UserError: for a value that the dataclass itself refuses.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(values.keys() - hints.keys())
    if unknown:
        raise ValueError(f"this version has no setting {prefix}{unknown[0]}")
    loaded = {}
    for name, value in values.items():
        if is_dataclass(hints[name]) and isinstance(value, Mapping):
            loaded[name] = dataclass_from(hints[name], value, f"{prefix}{name}.")
            continue
        try:
            TypeAdapter(hints[name]).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            raise ValueError(f"{prefix}{name} is {value!r}; {first_line(error)}") from None
        loaded[name] = tuple(value) if isinstance(value, list) else value
    return kind(**loaded)


def first_line(error: Exception) -> str:
    """Return what is wrong in one line; of a pydantic error, the first place."""
    text = str(error) or type(error).__name__
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        text = f"{'.'.join(map(str, first['loc'])) or 'its content'}: {first['msg'].removeprefix('Value error, ')}"
    return " ".join(text.split())[:200]


def _digest(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()

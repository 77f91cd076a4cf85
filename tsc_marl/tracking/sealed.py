"""JSON files that this program writes and reads back: a checksum of the content inside, checked with a schema when read."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tsc_marl.errors import UserError

CHECKSUM = "sha256"
"""Key of the checksum, beside those of the content. Earlier versions wrote none."""


def dumps(content: Mapping[str, Any]) -> str:
    """Return content as JSON with its checksum."""
    return json.dumps({**content, CHECKSUM: _digest(json.dumps(content))}, indent=1)


def loads(text: str | bytes, schema: Any) -> Any:
    """Return the content of a JSON text, as it stands there, without its checksum.

    Args:
        text: result of `dumps`, or JSON of an earlier version, without checksum.
        schema: any type that pydantic can check. A model should forbid further keys: in a file whose damaged byte lies in the
            name of the checksum, that name is one.

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
    try:
        TypeAdapter(schema).validate_json(canonical, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "its content"
        raise ValueError(" ".join(f"{place}: {first['msg']}".split())[:200]) from None
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


def _digest(canonical: str) -> str:
    return hashlib.sha256(canonical.encode()).hexdigest()

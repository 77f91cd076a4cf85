"""Files of tensors and of the values around them, in the format of safetensors, with a checksum of all that is read.

The tensors have their places as names, such as `training/weights/actor.head.weight`; what is no tensor is JSON in the header.
Nothing is pickled. Earlier versions wrote torch's own format, which is read too: its checksums are those of a zip file.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tsc_marl.errors import UserError

ZIP = b"PK"
"""First bytes of torch's own format."""


def save(path: Path, content: Mapping[str, Any], left: str) -> None:
    """Write tensors, numbers, strings and None in dicts, lists and tuples; a crash in the middle leaves the last file whole.

    Args:
        path: the file.
        content: its tensors are written without their gradients.
        left: what to say of the state of the folder when it fails.

    Raises:
        UserError: when the disk does not take it, or for a value of another type.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        nested: dict[str, Tensor] = {}
        structure = json.dumps(_flattened(dict(content), "", nested))
        tensors = _own_memory(nested)
        save_file(tensors, new, {"structure": structure, "sha256": _digest(structure, tensors)})
        os.replace(new, path)
    except (OSError, TypeError, SafetensorError) as error:
        new.unlink(missing_ok=True)
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} cannot be written ({reason}); {left}") from None


def load(path: Path) -> Any:
    """Return what `save` wrote, or torch in an earlier version.

    Raises:
        ValueError: in one line, when the file cannot be read or differs from what was written.
    """
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP)) == ZIP
        if is_zip:
            return _from_torch(path)
        with safe_open(path, "pt", backend="pread") as opened:  # a mapped file could change while its tensors are used
            metadata, tensors = opened.metadata(), opened.get_tensors()
        if metadata["sha256"] != _digest(metadata["structure"], tensors):
            raise ValueError("its content differs from its checksum sha256")
        return _nested(json.loads(metadata["structure"]), tensors)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from None


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds nan or infinity."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def _from_torch(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} differs from its checksum")
    return torch.load(path, weights_only=True)


def _digest(structure: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that safetensors takes: contiguous, no two in the same memory."""
    taken: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        memory = whole.untyped_storage().data_ptr()
        own[name] = whole.clone() if memory in taken else whole
        taken.add(memory)
    return own


def _flattened(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return a value as JSON and add its tensors to a dict. A JSON object is one key, the type, and the content."""
    if isinstance(value, Tensor):
        while name in tensors:
            name += "/"
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        prefix = f"{name}/" if name else ""
        return {"dict": [[key, _flattened(inner, f"{prefix}{key}", tensors)] for key, inner in value.items()]}
    if isinstance(value, list | tuple):
        entries = [_flattened(inner, f"{name}/{i}", tensors) for i, inner in enumerate(value)]
        return {"tuple": entries} if isinstance(value, tuple) else entries
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is of type {type(value).__name__}; expected tensors, numbers and strings")


def _nested(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `_flattened` got."""
    if isinstance(value, list):
        return [_nested(inner, tensors) for inner in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_nested(inner, tensors) for inner in content)
    return {key: _nested(inner, tensors) for key, inner in content}

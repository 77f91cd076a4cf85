"""Columns of whole numbers as few bytes: differences, then a variable number of bytes for each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Columns = Mapping[str, tuple[np.ndarray, int]]
"""Whole numbers by name, of any shape, each with the order of the differences that are stored."""


def packed(columns: Columns) -> tuple[list[dict[str, Any]], bytes]:
    """Return a directory of name, size and order, and the bytes of all columns, in the order of the directory.

    Each difference d becomes 2 d, or -2 d - 1 when negative. It is written as bytes of 7 bits, the lowest first; all but the
    last have the eighth bit set. The page reads them back.
    """
    directory = [{"name": name, "size": int(np.size(values)), "order": order} for name, (values, order) in columns.items()]
    return directory, b"".join(_bytes(values, order) for values, order in columns.values())


def _bytes(values: np.ndarray, order: int) -> bytes:
    numbers = np.asarray(values, dtype=np.int64).ravel()
    for _ in range(order):
        numbers = np.diff(numbers, prepend=0)
    plain = np.where(numbers < 0, -2 * numbers - 1, 2 * numbers)
    width = 1 + max(0, int(plain.max(initial=0)).bit_length() - 1) // 7
    parts = plain[:, None] >> 7 * np.arange(width)
    goes_on = parts[:, 1:] > 0
    digits = (parts & 127).astype(np.uint8)
    digits[:, :-1] |= (goes_on * 128).astype(np.uint8)
    used = np.column_stack([np.ones(len(plain), dtype=bool), goes_on])
    return digits[used].tobytes()

"""The folder of a new network: all of it, or nothing."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from tsc_marl.errors import UserError
from tsc_marl.paths import NETWORKS, make_folder, temporary_folder
from tsc_marl.sim import scenario


@contextlib.contextmanager
def all_or_nothing(out: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Yield the folder of a network to fill, and one of files that nobody keeps; the first becomes `out/name` at the end.

    Raises:
        UserError: when the name is taken or no name; each one within, with the paths shortened. Nothing is left then.
    """
    folder = out / _checked(name, out)
    make_folder(out)
    with temporary_folder(out) as temporary:
        made = Path(temporary, name)
        made.mkdir()
        try:
            yield made, Path(temporary)
        except UserError as error:
            raise UserError(str(error).replace(f"{made}/", "").replace(f"{temporary}/", "")) from None
        if folder.exists():
            raise _taken(folder)
        made.rename(folder)


def _checked(name: str, out: Path) -> str:
    """Return the name of a network that is free."""
    if not re.fullmatch(r"[\w.-]*\w[\w.-]*", name) or name.startswith("."):
        raise UserError(f"network {name}: a name has letters, digits, '.', '_' and '-' alone; give one: NET=mycity")
    if (out / name).exists():
        raise _taken(out / name)
    if out.resolve() != NETWORKS.resolve() and name in scenario.available():
        raise UserError(
            f"network {name} is the name of {NETWORKS / name}, so their results would mix; give another name: NET=mycity"
        )
    return name


def _taken(folder: Path) -> UserError:
    return UserError(f"{folder} exists already; remove it, or give another name: NET=mycity")

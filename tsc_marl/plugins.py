"""Everything that has a name: a file in a folder of the package, or what an installed package of the user's own offers."""

import contextlib
import functools
import importlib
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distributions
from types import ModuleType
from typing import Any, TypeVar

from tsc_marl.errors import UserError, unknown

T = TypeVar("T")


def available(package: ModuleType) -> list[str]:
    """Return the names of a kind: modules of its folder, except `base` and those that start with an underscore.

    The entry points of installed packages are added. Their group is the folder's name, such as `tsc_marl.rewards`.
    """
    return sorted({*_files(package), *(_plain(entry.name) for entry in _offered(package))})


def dashed(package: ModuleType) -> list[str]:
    """Return the names of a kind as the command line writes those of a simulation: with dashes."""
    return [name.replace("_", "-") for name in available(package)]


def check_dashed(package: ModuleType, name: str, kind: str) -> None:
    """Refuse a name that nobody offers, in either spelling; an import path is not imported.

    Raises:
        UserError: with the nearest name.
    """
    if ":" not in name and name.replace("_", "-") not in dashed(package):
        raise unknown(kind, name, dashed(package))


def find(package: ModuleType, name: str, base: type[T], kind: str) -> type[T]:
    """Return the class behind a name.

    Args:
        package: the folder; one module defines one class of the kind.
        name: a module of the folder, an entry point, or an import path `package.module:Name`.
        base: the class must be a subclass of it.
        kind: what messages call it, such as `controller`.

    Raises:
        UserError: unknown name, failed import, no class of this kind, several in one file, or a name that two packages offer.
    """
    if path := import_path(package, name, kind):
        return _subclass(path, base, kind)
    module = _import(f"{package.__name__}.{name}", kind, name)
    own = [c for c in vars(module).values() if _is(c, base) and c.__module__ == module.__name__]
    classes = [c for c in own if not any(c is not other and issubclass(other, c) for other in own)]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        raise UserError(f"{kind} {name}: its file must define one {base.__name__}; it defines {names}")
    return classes[0]


def import_path(package: ModuleType, name: str, kind: str) -> str:
    """Return the import path `package.module:Name` of a name; empty for a file of the folder.

    Raises:
        UserError: for an unknown name, and for a name that two packages offer.
    """
    if ":" in name:
        return name
    paths = {entry.value: entry.dist.name if entry.dist else "a package" for entry in _offered(package, name)}
    is_file = name in _files(package)
    if not paths and not is_file:
        raise unknown(kind, name, available(package))
    if len(paths) + is_file > 1:
        sources = [*(["tsc_marl"] if is_file else []), *(f"{source} ({path})" for path, source in paths.items())]
        raise UserError(f"{kind} {name} is offered by {' and '.join(sources)}; use an import path, or uninstall one")
    return next(iter(paths), "")


def leads_to(path: str, base: type, kind: str) -> bool:
    """Return whether an import path `package.module:Name` leads to a subclass.

    Raises:
        UserError: when it leads nowhere.
    """
    return _is(imported(path, kind), base)


def imported(path: str, kind: str) -> Any:
    """Return the object at an import path `package.module:Name`.

    Raises:
        UserError: when it leads nowhere.
    """
    module, _, attribute = path.partition(":")
    value = getattr(_import(module, kind, path), attribute, None)
    if value is None:
        raise UserError(f"{kind} {path}: module {module} has no {attribute or 'empty name'}; write package.module:Name")
    return value


@contextlib.contextmanager
def blamed(kind: str, name: str, source: Any) -> Iterator[None]:
    """Name the user's own code in one line when it fails.

    Args:
        kind: what messages call it, such as `reward`.
        name: its name or import path.
        source: its class or function. Code of this package is not blamed: its errors pass.

    Raises:
        UserError: for any other error inside.
    """
    module = sys.modules.get(getattr(source, "__module__", "") or "")
    try:
        yield
    except (Exception, SystemExit) as error:
        lost = type(error).__name__ == "FatalTraCIError"  # SUMO ended, or its window was closed
        if isinstance(error, UserError) or lost or (module and module.__name__.startswith("tsc_marl.")):
            raise
        path = getattr(module, "__file__", None)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        where = f" ({path}, line {lines[-1]})" if lines else ""
        raise UserError(f"{kind} {name} failed with {type(error).__name__}: {error}{where}") from error


def _files(package: ModuleType) -> list[str]:
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return [name for name in names if name != "base" and not name.startswith("_")]


def _offered(package: ModuleType, name: str | None = None) -> list[EntryPoint]:
    """Return the entry points of a kind, or those of one name."""
    group = f"tsc_marl.{package.__name__.rpartition('.')[2]}"
    return [entry for entry in _entry_points() if entry.group == group and name in (None, _plain(entry.name))]


@functools.cache
def _entry_points() -> list[EntryPoint]:
    return [entry for package in distributions() for entry in package.entry_points if entry.group.startswith("tsc_marl.")]


def _plain(name: str) -> str:
    """Return a name as a module would have it: dashes are underscores."""
    return name.replace("-", "_")


def _subclass(path: str, base: type[T], kind: str) -> type[T]:
    value = imported(path, kind)
    if not _is(value, base):
        raise UserError(
            f"{kind} {path}: {path.partition(':')[2]} is no {base.__name__}; give a subclass of {base.__module__}.{base.__name__}"
        )
    return value


def _import(module: str, kind: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise UserError(f"{kind} {name}: import of {module or 'an empty name'} failed ({reason}); correct the module") from error


def _is(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)

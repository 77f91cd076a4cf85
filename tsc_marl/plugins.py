"""Everything that has a name: a file in a folder of the package, or a class of the user's own package."""

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, TypeVar

from tsc_marl.errors import UserError, unknown

T = TypeVar("T")


def available(package: ModuleType) -> list[str]:
    """Return the names in a package folder: its modules, except `base` and those that start with an underscore."""
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in names if name != "base" and not name.startswith("_"))


def find(package: ModuleType, name: str, base: type[T], kind: str) -> type[T]:
    """Return the class behind a name.

    Args:
        package: the folder; one module defines one class of the kind.
        name: a module of the folder, or an import path `package.module:Name`.
        base: the class must be a subclass of it.
        kind: what messages call it, such as `controller`.

    Raises:
        UserError: unknown name, failed import, no class of this kind, or several of them in one file.
    """
    if ":" in name:
        return _subclass(name, base, kind)
    if name not in available(package):
        raise unknown(kind, name, available(package))
    module = _import(f"{package.__name__}.{name}", kind, name)
    own = [c for c in vars(module).values() if _is(c, base) and c.__module__ == module.__name__]
    classes = [c for c in own if not any(c is not other and issubclass(other, c) for other in own)]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        raise UserError(f"{kind} {name}: its file must define one {base.__name__}; it defines {names}")
    return classes[0]


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
def blamed(kind: str, source: str) -> Iterator[None]:
    """Name the user's own function or class that fails inside.

    Raises:
        UserError: for any error inside.
    """
    try:
        yield
    except Exception as error:  # anything may come out of a user's own function
        raise UserError(f"{kind} {source} failed with {type(error).__name__}: {error}") from error


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
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{kind} {name}: import of {module or 'an empty name'} failed ({reason}); correct the module") from error


def _is(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)

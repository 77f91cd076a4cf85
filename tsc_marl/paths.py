"""Where the program finds its own files, where it keeps those of its user, and what may be wrong with a file."""

import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import tempfile
from importlib import resources
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import yaml

from tsc_marl.errors import UserError

ROOT = Path(__file__).parents[1]
"""The folder of the package: the clone, or site-packages."""


def home() -> Path:
    """Return the folder of runs, store, artifacts and reports: TSC_MARL_HOME, or the current folder."""
    return Path(os.environ.get("TSC_MARL_HOME") or ".").absolute()


def shipped(name: str) -> Path:
    """Return a folder that comes with the program, `networks` or `configs`: inside an installed package, else in the clone."""
    inside = Path(str(resources.files("tsc_marl"))) / name
    return inside if inside.is_dir() else ROOT / name


NETWORKS, CONFIGS = shipped("networks"), shipped("configs")
PRETRAINED = shipped("pretrained") / "policy.safetensors"
"""Checkpoint of the policy that comes with the program."""


LONGEST_NAME = 150
"""Characters of a file name that `file_name` returns; file systems take 255, and callers add beginnings and ends."""
TEMPORARY = "tsc_marl_"
"""First part of the names of temporary folders."""
LONGEST_SOCKET_FOLDER = 25
"""Characters of the folder of temporary files, so that a socket in ours has a legal path: systems allow 104 in all."""

AFTER_SOCKETS = -200
"""Priority at the end of a process; multiprocessing removes its folder of sockets with -100."""


def file_name(name: str) -> str:
    """Return a name as a file name that every file system takes: letters, digits, `.`, `_` and `-`.

    Every other character becomes its hexadecimal code between two `-`, so that different names stay different. A long name is
    cut, and ends with a digest of the whole.

    >>> file_name("jointq-one_step_team"), file_name("mine.rules:Second")
    ('jointq-one_step_team', 'mine.rules-3a-Second')
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", lambda match: f"-{ord(match[0]):x}-", name)
    return safe if len(safe) <= LONGEST_NAME else f"{safe[: LONGEST_NAME - 9]}-{digest(name)}"


def digest(text: str) -> str:
    """Return eight hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]


def process_mark(pid: int) -> str:
    """Return what tells a process from all others: machine, process id, and start time in clock ticks after boot.

    The machine is a digest of host name and process namespace: a container has processes of its own.

    Raises:
        OSError: when the process does not exist.
    """
    start = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return f"{machine()}-{pid}-{start}"


@functools.cache
def machine() -> str:
    """Return a digest of host name and process namespace."""
    return digest(f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}")


def is_dead(mark: str) -> bool:
    """Return whether a mark is of a process of this machine that has ended; False for every other text."""
    parts = mark.split("-")
    if len(parts) != 3 or parts[0] != machine() or not parts[1].isdecimal():
        return False
    try:
        return process_mark(int(parts[1])) != mark
    except OSError:
        return True


def temporary_folder(parent: Path | None = None) -> "tempfile.TemporaryDirectory[str]":
    """Return a temporary folder whose name has the mark of this process, so that a later one can remove it after a kill.

    Args:
        parent: where it lies, hidden; by default in the folder of temporary files.
    """
    name = f"{TEMPORARY if parent is None else '.' + TEMPORARY}{process_mark(os.getpid())}_"
    return tempfile.TemporaryDirectory(prefix=name, dir=parent, ignore_cleanup_errors=True)


@functools.cache
def process_folder(parent: str | None = None) -> str:
    """Return a temporary folder, marked as `temporary_folder`, that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix=f"{TEMPORARY}{process_mark(os.getpid())}_", dir=parent)
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=AFTER_SOCKETS)
    return folder


def socket_folder() -> str:
    """Return a temporary folder of this process in which a socket has a legal path."""
    return process_folder("/tmp" if len(tempfile.gettempdir()) > LONGEST_SOCKET_FOLDER else None)


def make_folder(out: Path) -> None:
    """Make the folder of the option `out`, before anything is measured that would be lost without it.

    Raises:
        UserError: when it cannot be made, or when SUMO could not read its name.
    """
    if "," in str(out):
        raise UserError(f"out {out} has a comma, where SUMO ends a file name; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out {out} cannot be made ({error.strerror}); give another folder") from None


def make_file(out: Path) -> None:
    """Make the file of the option `out`, unless it exists, before anything is played that would be lost without it.

    Raises:
        UserError: when it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.open("ab").close()
    except OSError as error:
        raise UserError(f"out {out} cannot be written ({error.strerror}); give another file") from None


MOST_ENTRIES, MOST_DIGITS = 10_000, 18
"""Of a YAML file: entries with those that an alias repeats, and digits of a number."""


def read_yaml(path: Path) -> Any:
    """Return what a YAML file says: dicts, lists and plain values.

    Raises:
        UserError: when it is not YAML, or no file of settings: too deep, too large, with numbers beyond use.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that cannot be
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML (brackets nested too deep); correct the file") from None
    waiting, seen = [content], 0
    while waiting:
        entry, seen = waiting.pop(), seen + 1
        if seen > MOST_ENTRIES:
            raise UserError(f"{path}: more than {MOST_ENTRIES} entries; a file of settings has a few: correct the file")
        if isinstance(entry, int) and abs(entry) >= 10**MOST_DIGITS:
            raise UserError(f"{path}: a number has more than {MOST_DIGITS} digits; correct the file")
        if isinstance(entry, dict):
            waiting += entry.values()
        elif isinstance(entry, list):
            waiting += entry
    return content


ADVICE = {
    errno.ENOSPC: "free some space there and run it again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the command again",
    errno.EFBIG: "the largest size of a file is reached; raise it (ulimit -f)",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "it does not exist, or was removed meanwhile",
    errno.EACCES: "change its permissions, or give another path",
    errno.EPERM: "change its permissions, or give another path",
    errno.EROFS: "give a path that can be written",
    errno.ENOMEM: "use fewer --workers, or a smaller network",
}
"""What to do about an error of the system, by its number."""
LONGEST = 200
"""Characters of a path that a message shows."""


def refused_by_system(error: OSError) -> UserError:
    """Return an error of the system as one line: the file or the full disk, the reason, what to do."""
    named = [str(name) for name in (error.filename, error.filename2) if name is not None]
    what = " and ".join(name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in named)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = free_space(*(named or (home(), tempfile.gettempdir(), ".")))
    advice = ADVICE.get(error.errno or 0, "correct the path, or give another one")
    return UserError(f"{what or 'a file'}: {error.strerror}; {advice}")


def free_space(*paths: str | Path) -> str:
    """Return how much is free on the disks of some paths, which need not exist, such as `/tmp (3 MB free)`."""
    folders = [next(p for p in (Path(path).absolute(), *Path(path).absolute().parents) if p.is_dir()) for path in paths]
    return ", ".join(f"{folder} ({shutil.disk_usage(folder).free / 1e6:.0f} MB free)" for folder in dict.fromkeys(folders))

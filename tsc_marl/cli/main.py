"""The command line: find the verb, run it, return the exit code.

The verbs are a table, since tyro lists its subcommands without groups and names no verb that is near to a mistyped one.
`train` reads `--algos` before its options are known, `study` passes unknown options on: subcommands of tyro offer neither.
"""

import io
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

from tsc_marl import console, old_options
from tsc_marl.cli import street, verbs, viewing
from tsc_marl.config import program
from tsc_marl.errors import UserError, unknown
from tsc_marl.paths import refused_by_system
from tsc_marl.rollout import interrupts
from tsc_marl.tracking import leftovers

GROUPS: dict[str, tuple[Callable[[list[str]], None], ...]] = {
    "start here": (verbs.networks, verbs.city, verbs.cut, verbs.generate, verbs.train, verbs.evaluate, verbs.study),
    "look": (viewing.watch, viewing.video, viewing.show, viewing.explain, viewing.locks, viewing.ui),
    "compare": (verbs.compare, verbs.report, verbs.probe, viewing.branch),
    "share": (verbs.export, verbs.import_, verbs.release, street.deploy, street.serve),
    "maintain": (verbs.doctor, verbs.results, verbs.bench, verbs.check_lights),
}


def _name(verb: Callable[[list[str]], None]) -> str:
    """Return a verb on the command line: `import` for `import_`, `check-lights` for `check_lights`."""
    return verb.__name__.rstrip("_").replace("_", "-")


VERBS = {_name(verb): verb for group in GROUPS.values() for verb in group}
ON_CLUSTERS = ("train", "study", "evaluate")
"""Verbs with the option `--cluster`."""


def _usage() -> None:
    print(f"usage: {program()} [-q | -v] VERB [OPTIONS]")
    for title, group in GROUPS.items():
        print(f"\n{title}")
        for verb in group:
            print(f"  {_name(verb):14s}{(verb.__doc__ or '').splitlines()[0]}")
    print("\n-q prints tables and warnings only, -v prints more. VERB --help explains every option.")


def _nobody_reads() -> bool:
    """Whether what we print goes to a pipe that its reader has closed."""
    poll = select.poll()
    try:
        poll.register(sys.stdout, select.POLLOUT)
    except io.UnsupportedOperation:  # no file, as in a notebook
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def main(argv: list[str]) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C and SIGTERM, 141 for `| head`."""
    console.show_log(console.level(argv))
    try:
        _run([word for word in argv if word not in console.FLAGS])
        sys.stdout.flush()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or interrupts.is_stopping():
            return 130
        if _nobody_reads():
            _silence(sys.stdout)
            return 141
        mistake = _mistake(error)
        if mistake is None:
            raise
        _print_error(" ".join(str(mistake).split()))
        return 2
    return 0


def _print_error(line: str) -> None:
    try:
        print(f"error: {line}", file=sys.stderr, flush=True)
    except OSError:  # the disk of the log is full
        _silence(sys.stdout, sys.stderr)


def _silence(*streams: TextIO) -> None:
    """Let nothing more be written: Python would complain, or change the exit code, when it flushes at its end."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        _usage()
        return
    name = old_options.verb(words[0])
    if name not in VERBS:
        raise unknown("verb", name, VERBS)
    if name not in ON_CLUSTERS and any(word.split("=")[0] == "--cluster" for word in words):
        raise UserError(f"{name} works on this machine alone; leave out CLUSTER (--cluster), which {', '.join(ON_CLUSTERS)} have")
    leftovers.remove_folders()
    VERBS[name](old_options.replace(words[1:]))


def _mistake(error: BaseException) -> UserError | None:
    """Return what the user can mend: their own mistake, or what the system lacks. None for an error of this program."""
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return refused_by_system(error)
    if isinstance(error, MemoryError):
        return UserError("memory ran out; use fewer --workers, or a smaller network")
    return error if isinstance(error, UserError) else None

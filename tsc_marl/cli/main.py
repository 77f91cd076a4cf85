"""The command line: find the verb, run it, return the exit code.

The verbs are a table, since tyro lists its subcommands without groups and names no verb that is near to a mistyped one.
`train` reads `--algos` before its options are known, `study` passes unknown options on: subcommands of tyro offer neither.
"""

import os
import select
import signal
import sys
from collections.abc import Callable

from tsc_marl import console, old_options
from tsc_marl.cli import verbs
from tsc_marl.config import program
from tsc_marl.errors import UserError, unknown
from tsc_marl.tracking import leftovers

GROUPS: dict[str, tuple[Callable[[list[str]], None], ...]] = {
    "start here": (verbs.networks, verbs.train, verbs.evaluate, verbs.study),
    "look": (verbs.watch, verbs.video, verbs.explain, verbs.ui),
    "compare": (verbs.compare, verbs.report, verbs.probe),
    "share": (verbs.export, verbs.import_),
    "maintain": (verbs.doctor, verbs.results, verbs.bench),
}
VERBS = {verb.__name__.rstrip("_"): verb for group in GROUPS.values() for verb in group}


def _usage() -> None:
    print(f"usage: {program()} [-q | -v] VERB [OPTIONS]")
    for title, group in GROUPS.items():
        print(f"\n{title}")
        for verb in group:
            print(f"  {verb.__name__.rstrip('_'):10s}{(verb.__doc__ or '').splitlines()[0]}")
    print("\n-q prints tables and warnings only, -v prints more. VERB --help explains every option.")


def _nobody_reads() -> bool:
    """Whether what we print goes to a pipe that its reader has closed."""
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def main(argv: list[str]) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C and SIGTERM, 141 for `| head`."""
    console.show_log(console.level(argv))
    words = [word for word in argv if word not in console.FLAGS]
    try:
        if not words or words[0] in ("-h", "--help"):
            _usage()
        else:
            name = old_options.verb(words[0])
            if name not in VERBS:
                raise unknown("verb", name, VERBS)
            leftovers.remove_folders()
            VERBS[name](old_options.replace(words[1:]))
        sys.stdout.flush()
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it flushes at its end
        return 141
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def run() -> None:
    """Run the command line of this process and end it with the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # how schedulers stop a job: as Ctrl-C, with a checkpoint
    sys.exit(main(sys.argv[1:]))

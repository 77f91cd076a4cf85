"""The command line: parse, call, print."""

import sys
from collections.abc import Callable

from tsc_marl.errors import UserError, unknown


def train(argv: list[str]) -> None:
    """Train algorithms on a network, compare them with classical controllers."""
    from tsc_marl import train as module

    module.train(argv)


VERBS: dict[str, Callable[[list[str]], None]] = {"train": train}


def main(argv: list[str]) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m tsc_marl VERB [OPTIONS]\n")
        for name, verb in VERBS.items():
            print(f"  {name:10s}{(verb.__doc__ or '').splitlines()[0]}")
        print("\npython -m tsc_marl VERB --help explains every option.")
        return 0
    try:
        if argv[0] not in VERBS:
            raise unknown("verb", argv[0], VERBS)
        VERBS[argv[0]](argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

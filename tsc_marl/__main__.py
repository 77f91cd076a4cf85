"""The process of the command line: `python -m tsc_marl` in a clone, `tsc-marl` of an installed package."""

import io
import sys

from tsc_marl.rollout import interrupts


def run() -> None:
    """Run the command line of this process and end it with the exit code."""
    interrupts.install()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name need not be text; stderr has this by itself
    try:
        from tsc_marl.cli.main import main

        code = main(sys.argv[1:])
    except BaseException:  # a stop in the middle of an import comes out as any error
        if not interrupts.is_stopping():
            raise
        code = 130
    interrupts.ignore()
    sys.exit(code)


if __name__ == "__main__":
    run()

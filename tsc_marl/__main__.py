"""`python -m tsc_marl`: the command line in a clone, as `tsc-marl` is that of an installed package."""

from tsc_marl.cli.main import run

run()

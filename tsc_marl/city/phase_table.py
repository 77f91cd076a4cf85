"""The phases of a network's signals as tables: what each serves, by approach and turn."""

from rich.table import Table

from tsc_marl.sim.scenario import Scenario
from tsc_marl.sim.signal_sheet import SignalSheet, of_scenario


def tables(scenario: Scenario) -> list[Table]:
    """Return a table for each signal of a network, in the order of their names.

    Raises:
        UserError: when the network cannot be read.
    """
    return [_table(sheet) for sheet in of_scenario(scenario)]


def _table(sheet: SignalSheet) -> Table:
    streets = f" ({' and '.join(sheet.streets[:2])})" if sheet.streets else ""
    role = f"keeps its program: {sheet.fixed}" if sheet.fixed else "agent"
    title = f"signal {sheet.name}{streets}: {role}; program {sheet.program}"
    table = Table(title=title, title_justify="left", show_lines=True)
    table.add_column("phase", justify="right")
    table.add_column("program [s]", justify="right")
    table.add_column("serves")
    for number, phase in enumerate(sheet.phases):
        table.add_row(str(number), f"{sheet.green_s(phase):g}", "\n".join(sheet.movements(phase)) or "nothing")
    return table

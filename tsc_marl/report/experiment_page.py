"""The answer on a network as the description of its experiment, which MLflow's page of the experiment shows."""

from tsc_marl.analysis import compare, summaries
from tsc_marl.evaluation import tables
from tsc_marl.evaluation.tables import Column
from tsc_marl.report import sentences
from tsc_marl.report.network_data import NetworkResults
from tsc_marl.report.verdict import verdicts
from tsc_marl.tracking.stored_runs import StoredRuns

COLUMNS = (
    Column("name", "controller"), Column("trainings", "trainings"), Column("delay", "delay [s]", tables.number(".1f")),
    Column("span", "95 % [s]"),
)  # fmt: skip


def describe(network: str) -> None:
    """Write verdicts and delays of the finished trainings on a network into the description of its experiment.

    Raises:
        UserError: when there are none, or when they cannot be compared.
    """
    comparison = compare.load(network)
    reference = comparison.reference()
    results = NetworkResults(comparison, reference, summaries.summarise(comparison, reference), {})
    answers = [
        f"**{sentences.headline(results, verdict)}** {sentences.evidence(results, verdict)}" for verdict in verdicts(results)
    ]
    rows = [
        {"name": name, "trainings": len(results.groups[name]), "delay": summary.delay, "span": tables.span(summary.interval)}
        for name, summary in results.summaries.items()
    ]
    rows += [{"name": name, "delay": delay} for name, delay in comparison.baseline_delays.items()]
    table = tables.markdown_table(COLUMNS, sorted(rows, key=lambda row: row["delay"]))
    StoredRuns(network).describe_experiment("\n\n".join([*answers, table]))

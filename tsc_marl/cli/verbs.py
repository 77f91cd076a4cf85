"""The verbs of the command line: each reads its options, calls the package, prints the outcome."""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tsc_marl import console
from tsc_marl.bounds import check_list
from tsc_marl.cli.options import (
    BenchOptions,
    CheckLightsOptions,
    CityOptions,
    CompareOptions,
    CutOptions,
    DoctorOptions,
    EvaluateOptions,
    ExportOptions,
    GenerateOptions,
    ImportOptions,
    NetworksOptions,
    ProbeOptions,
    ReleaseOptions,
    ReportOptions,
    ResultsOptions,
    StudyOptions,
    split,
)
from tsc_marl.cli.tasks import check_seed, open_task, write_intergreen
from tsc_marl.config import algorithms, check_eval_seeds, cli, command_line, timings
from tsc_marl.errors import UserError, joined, try_each, unknown
from tsc_marl.paths import make_folder

if TYPE_CHECKING:
    from tsc_marl.analysis.compare import Comparison
    from tsc_marl.training.study import Trial

logger = logging.getLogger(__name__)


def train(argv: list[str]) -> None:
    """Train algorithms on a network, then evaluate them."""
    from tsc_marl.tracking.run_folder import RunFolder
    from tsc_marl.training import loop as module
    from tsc_marl.training import settings

    folder = RunFolder(module.train(argv))
    if folder.finished.exists() and not folder.log.exists():  # a study describes its networks at its own end
        _describe([settings.read(folder).network_name])


def _describe(networks: "Iterable[str]") -> None:
    """Write the answers into the descriptions of the experiments; trainings that cannot be compared have none."""
    from tsc_marl.report import experiment_page

    for network in networks:
        with contextlib.suppress(UserError):
            experiment_page.describe(network)


def study(argv: list[str]) -> None:
    """Train algorithms on networks with seeds, side by side. Continues itself."""
    own, rest = split(argv, ("network", "algos", "seeds", "jobs", "help"))
    options = cli(StudyOptions, own, "study")
    from tsc_marl.training import study as module

    for name in ("network", "algos", "seeds"):
        check_list(name, getattr(options, name))
    cells = module.trials(options.network, options.algos, options.seeds, rest)
    failure = None
    try:
        module.run(cells, options.jobs)
    except UserError as error:  # the others are compared all the same
        failure = error
    if finished := [cell for cell in cells if cell.finished]:
        _describe(dict.fromkeys(cell.net for cell in finished))
        _compare_trials(finished, command_line("study", argv))
    if failure is not None:
        raise failure


def _compare_trials(trials: "Sequence[Trial]", command: str) -> None:
    from tsc_marl.analysis import compare
    from tsc_marl.report import build

    choice = compare.RunFilter(folders=[trial.folder.name for trial in trials])
    nets = dict.fromkeys(trial.net for trial in trials)
    loaded, refused = try_each(nets, lambda net: compare.load(net, choice))
    comparisons = list(loaded.values())
    for comparison in comparisons:
        _show(comparison, None)
    stored = {training.tags["folder"] for comparison in comparisons for training in comparison.trainings}
    if missing := [trial.folder.name for trial in trials if trial.net in loaded and trial.folder.name not in stored]:
        console.say(f"not in the store, so not compared: {', '.join(missing)}; remove them from runs/ to train again")
    if comparisons:
        build.run(comparisons, None, ReportOptions().out, command)
    if refused:
        raise joined(refused, len(nets), "networks cannot be compared")


def evaluate(argv: list[str]) -> None:
    """Measure controllers and trained policies on held-out seeds."""
    options = cli(EvaluateOptions, argv, "evaluate")
    from tsc_marl import controllers
    from tsc_marl.evaluation import session
    from tsc_marl.sim import disturbances
    from tsc_marl.tracking.policies import policy_labels
    from tsc_marl.viz.engineering import corridor

    wanted = tuple(controllers.available()) if options.policy == ("classical",) else options.policy
    check_list("policy", wanted)
    check_list("network", options.network)
    labels = policy_labels(wanted)
    names = [*wanted, *labels.values(), *controllers.available(), *algorithms()]
    if options.baseline not in names:
        raise unknown("baseline", options.baseline, dict.fromkeys(names))
    for name in options.disturbances or ():
        disturbances.find(name)
    check_eval_seeds(options.eval_seeds)
    disturbed = () if options.disturbances is None else options.disturbances or disturbances.available()
    nets = session.networks(options.network)
    tasks, refused = try_each(nets, lambda net: open_task(net, options.timing_preset, options.demand, options.metrics))
    baseline = labels.get(options.baseline, options.baseline)
    if options.plots:
        for task in tasks.values():
            corridor.along(task.scenario, task.net(), options.plots)
    if tasks:
        for net, error in refused.items():
            logger.warning(f"{net} is left out: {error}")
        how = (options.workers, options.cluster, options.plots, options.sampling, options.approaches)
        session.run(list(tasks.values()), wanted, options.eval_seeds, options.out, baseline, disturbed, *how)
    if refused:
        raise joined(refused, len(nets), "networks cannot be measured")


def results(argv: list[str]) -> None:
    """Measure all controllers on RESCO's networks, write docs/results.md."""
    options = cli(ResultsOptions, argv, "results")
    from tsc_marl.benchmarks import resco as module

    module.run(options.workers, options.out, options.page)


def compare(argv: list[str]) -> None:
    """Compare the finished trainings of a network: delay, speed, intervals."""
    options = cli(CompareOptions, argv, "compare")
    _show(_trained(options.network, options), options.reference)


def _trained(net: str, options: CompareOptions | ReportOptions) -> "Comparison":
    from tsc_marl.analysis import compare as module
    from tsc_marl.sim import scenario

    comparison = module.load(scenario.stored_name(net), module.RunFilter(options.where, options.algos))
    comparison.reference(options.reference)
    return comparison


def _show(comparison: "Comparison", reference: str | None) -> None:
    from tsc_marl.analysis import summaries as module

    console.show(module.runs_table(comparison), module.RUN_MINOR)
    console.show(module.table(comparison, comparison.reference(reference)), module.MINOR)
    console.say(module.LEGEND)
    if caution := module.caveats(comparison):
        console.say(caution)


def probe(argv: list[str]) -> None:
    """Measure bias and variance of the policy gradients at saved policies."""
    options = cli(ProbeOptions, argv, "probe")
    from tsc_marl.analysis import gradient_probe as module
    from tsc_marl.sim import scenario

    network = scenario.load(options.network).name
    check_list("policy", options.policy)
    module.run(network, options.policy, options.episodes, options.truth_lam, options.out, options.workers)


def report(argv: list[str]) -> None:
    """Write an HTML page on the finished trainings, with plots."""
    options = cli(ReportOptions, argv, "report")
    if options.out.suffix != ".html":
        raise UserError(f"out must name an .html file; got {options.out}")
    from tsc_marl.report import build

    check_list("network", options.network)
    comparisons, refused = try_each(options.network, lambda net: _trained(net, options))
    if comparisons:
        build.run(list(comparisons.values()), options.reference, options.out, command_line("report", argv))
    if refused:
        raise joined(refused, len(options.network), "networks cannot be reported")


def export(argv: list[str]) -> None:
    """Write finished trainings as files."""
    options = cli(ExportOptions, argv, "export")
    from tsc_marl.analysis.compare import RunFilter
    from tsc_marl.report import archive
    from tsc_marl.sim import scenario

    names = tuple(scenario.stored_name(net) for net in options.network)
    line = console.make_line("import", FROM=str(options.out))
    number = archive.write(names, RunFilter(options.where, options.algos), options.out, command_line("export", argv))
    console.say(f"{number} files of trainings: {options.out}; to read them elsewhere: {line}")


def release(argv: list[str]) -> None:
    """Write a policy's weights alone, as a small file to share."""
    options = cli(ReleaseOptions, argv, "release")
    from tsc_marl.sim import scenario
    from tsc_marl.tracking import checkpoint
    from tsc_marl.tracking.policies import find_checkpoint
    from tsc_marl.tracking.run_folder import TrainingFolder

    path = find_checkpoint(options.policy, scenario.plain_name(options.network))
    states = TrainingFolder(path.parent).checkpoints()
    earlier = states[: states.index(path)] if path in states else []
    if options.mean_of > len(earlier) + 1:
        raise UserError(
            f"--mean-of {options.mean_of} needs runs/<training>/<algorithm>-s<seed>/checkpoint.pt with {options.mean_of - 1} "
            f"snapshots; {path} has {len(earlier)}"
        )
    chosen = earlier[len(earlier) + 1 - options.mean_of :]
    saved = checkpoint.load(path).averaged([checkpoint.load(state) for state in chosen])
    checkpoint.save(saved.weights_only(), options.out)
    console.say(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB, {saved.origin}")


def import_(argv: list[str]) -> None:
    """Read exported trainings into the store, by default the published ones."""
    options = cli(ImportOptions, argv, "import")
    from tsc_marl.report import archive

    taken, present, networks = archive.read(options.folder)
    _describe(networks)
    console.say(
        f"{taken} read from {options.folder}, {present} were in the store already; next: make compare, make report, make ui"
    )


def networks(argv: list[str]) -> None:
    """List the road networks: signals, phases, lanes, vehicles, licence."""
    options = cli(NetworksOptions, argv, "networks")
    from tsc_marl.city import phase_table
    from tsc_marl.evaluation import tables
    from tsc_marl.sim import scenario

    if options.intergreen is not None:
        write_intergreen(options.network, options.timing_preset, options.intergreen)
        return
    names = options.network or scenario.available()
    rows, refused = try_each(names, lambda name: tables.network_row(scenario.load(name)))
    if rows:
        console.show(tables.networks_table(list(rows.values())), tables.NETWORK_MINOR)
    for name in rows if options.network else ():
        for table in phase_table.tables(scenario.load(name)):
            console.show(table)
    if refused:
        raise joined(refused, len(names), "networks cannot be listed")


def generate(argv: list[str]) -> None:
    """Make road networks to train on, from seeds."""
    options = cli(GenerateOptions, argv, "generate")
    check_list("seeds", options.seeds)
    if options.count > 1 and len(options.seeds) > 1:
        raise UserError(f"count {options.count} goes with one seed, the first; got seeds {' '.join(map(str, options.seeds))}")
    from tsc_marl.generator import build as module

    seeds = options.seeds if options.count == 1 else tuple(range(min(options.seeds), min(options.seeds) + options.count))
    for seed in seeds:
        check_seed(seed)
    make_folder(options.out)
    module.run(seeds, options.out, options.workers)


def city(argv: list[str]) -> None:
    """Make a network to train on from a map of your city, or from SUMO's files."""
    options = cli(CityOptions, argv, "city")
    from tsc_marl.city import build as module

    module.run(options.source, options.network, options.out, options.roads, options.demand, command_line("city", argv))


def cut(argv: list[str]) -> None:
    """Make a network of some signals of another one, with the vehicles there."""
    options = cli(CutOptions, argv, "cut")
    check_list("signals", options.signals)
    from tsc_marl.city import cut as module

    command = command_line("cut", argv)
    module.run(options.source, options.signals, options.around_m, options.network, options.out, command)


def doctor(argv: list[str]) -> None:
    """Check the installation, the store and the disk; say what to do."""
    cli(DoctorOptions, argv, "doctor")
    from tsc_marl.cli import doctor as module

    found = module.checks()
    console.show(module.table(found))
    if wrong := [check.what for check in found if check.state == "problem"]:
        raise UserError(f"{len(wrong)} of {len(found)} checks found a problem: {', '.join(wrong)}; the table says what to do")


def bench(argv: list[str]) -> None:
    """Measure speed, as ratios within one run."""
    options = cli(BenchOptions, argv, "bench")
    from tsc_marl.benchmarks import speed as module

    module.run(options.only)


def check_lights(argv: list[str]) -> None:
    """Check the lights of policies and of random requests, second by second."""
    options = cli(CheckLightsOptions, argv, "check-lights")
    check_list("seeds", options.seeds)
    for seed in options.seeds:
        check_seed(seed)
    from tsc_marl.evaluation import light_check as module
    from tsc_marl.sim import scenario

    cases = module.cases(options.network or scenario.available(), options.policy, options.timing_preset or timings())
    module.run(module.episodes(cases, options.seeds, options.signal_seconds), options.out, options.workers)

"""The command line: parse, call, print."""

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tsc_marl import console
from tsc_marl.cli.options import (
    BenchOptions,
    CompareOptions,
    EvaluateOptions,
    ExplainOptions,
    ExportOptions,
    ImportOptions,
    NetsOptions,
    ProbeOptions,
    ReportOptions,
    ResultsOptions,
    StudyOptions,
    UiOptions,
    VideoOptions,
    WatchOptions,
    make_folder,
    split,
)
from tsc_marl.config import algorithms, check_eval_seeds, check_list, cli, command_line, read_timing
from tsc_marl.errors import UserError, unknown
from tsc_marl.sim.demand import Demand

if TYPE_CHECKING:
    from tsc_marl.analysis.compare import Comparison


def train(argv: list[str]) -> None:
    """Train algorithms on a network, then compare them with classical controllers."""
    from tsc_marl.training import loop as module

    module.train(argv)


def study(argv: list[str]) -> None:
    """Train algorithms x networks x seeds side by side; what is finished is skipped, what was stopped goes on."""
    own, rest = split(argv, ("net", "algos", "seeds", "jobs", "help"))
    options = cli(StudyOptions, own, "study")
    from tsc_marl.training import study as module

    for name in ("net", "algos", "seeds"):
        check_list(name, getattr(options, name))
    if options.jobs < 1:
        raise UserError(f"jobs must be at least 1; got {options.jobs}")
    cells = module.trials(options.net, options.algos, options.seeds, rest)
    module.run(cells, options.jobs)
    from tsc_marl.analysis import compare
    from tsc_marl.report import build

    choice = compare.RunFilter(folders=[cell.folder.name for cell in cells])
    comparisons = [compare.load(net, choice) for net in dict.fromkeys(cell.net for cell in cells)]
    for comparison in comparisons:
        _show(comparison, None)
    there = {training.tags["folder"] for found in comparisons for training in found.trainings}
    if missing := [cell.folder.name for cell in cells if cell.folder.name not in there]:
        console.say(
            f"not compared, since the store has nothing of them: {', '.join(missing)}; remove them from runs/ to train again"
        )
    build.run(comparisons, None, ReportOptions().out, command_line("study", argv))


def evaluate(argv: list[str]) -> None:
    """Measure controllers or trained policies on held-out seeds and keep SUMO's own files."""
    options = cli(EvaluateOptions, argv, "evaluate")
    from tsc_marl import controllers
    from tsc_marl.evaluation import session
    from tsc_marl.evaluation.evaluate import policy_labels
    from tsc_marl.sim import disturbances

    wanted = tuple(controllers.available()) if options.controller == ("classical",) else options.controller
    check_list("controller", wanted)
    check_list("net", options.net)
    known = [*wanted, *policy_labels(wanted).values(), *controllers.available(), *algorithms()]
    if options.baseline not in known:
        raise unknown("baseline", options.baseline, dict.fromkeys(known))
    for name in options.stress or ():
        disturbances.find(name)
    check_eval_seeds(options.eval_seeds)
    session.run([_task(name, options.timing, options.demand) for name in session.networks(options.net)], wanted, options)


def results(argv: list[str]) -> None:
    """Measure all classical controllers on RESCO's networks and write docs/results.md."""
    options = cli(ResultsOptions, argv, "results")
    from tsc_marl.benchmarks import resco as module

    module.run(options.workers, options.out, options.page)


def compare(argv: list[str]) -> None:
    """Compare the finished trainings of a network: how good, how soon, how sure."""
    options = cli(CompareOptions, argv, "compare")
    (comparison,) = _trained((options.net,), options)
    _show(comparison, options.reference)


def _trained(nets: tuple[str, ...], options: CompareOptions | ReportOptions) -> "list[Comparison]":
    from tsc_marl.analysis import compare as module
    from tsc_marl.sim import scenario

    check_list("net", nets)
    names = [scenario.load(net).name for net in nets]
    return [module.load(name, module.RunFilter(options.where, options.algos)) for name in names]


def _show(comparison: "Comparison", reference: str | None) -> None:
    from tsc_marl.analysis import compare as module

    console.show(module.runs_table(comparison), ("median", "commit", "minutes", "episodes"))
    console.show(module.table(comparison, comparison.reference(reference)), module.MINOR)
    if caution := module.caveats(comparison):
        console.say(caution)


def probe(argv: list[str]) -> None:
    """Measure bias and variance of each advantage estimator's policy gradient at saved policies."""
    options = cli(ProbeOptions, argv, "probe")
    from tsc_marl.analysis import gradient_probe as module
    from tsc_marl.sim import scenario

    network = scenario.load(options.net).name
    check_list("run", options.run)
    module.run(network, options.run, options.episodes, options.truth_lam, options.out, options.workers)


def report(argv: list[str]) -> None:
    """Write what the finished trainings answer as one HTML page, with figures for a paper."""
    options = cli(ReportOptions, argv, "report")
    if options.out.suffix != ".html":
        raise UserError(f"out must name an .html file; got {options.out}")
    from tsc_marl.report import build

    build.run(_trained(options.net, options), options.reference, options.out, command_line("report", argv))


def export(argv: list[str]) -> None:
    """Write finished trainings as files, to publish them or to take them to another store."""
    options = cli(ExportOptions, argv, "export")
    from tsc_marl.analysis.compare import RunFilter
    from tsc_marl.report import archive
    from tsc_marl.sim import scenario

    names = tuple(scenario.load(net).name for net in options.net)
    number = archive.write(names, RunFilter(options.where, options.algos), options.out, command_line("export", argv))
    console.say(f"{number} files of trainings: {options.out}; to read them elsewhere: make import FROM={options.out}")


def import_(argv: list[str]) -> None:
    """Take exported trainings into the store, by default those that this repository publishes."""
    options = cli(ImportOptions, argv, "import")
    from tsc_marl.report import archive

    taken, there = archive.read(options.folder)
    console.say(f"{taken} taken in from {options.folder}, {there} were there already; next: make compare, make report, make ui")


def watch(argv: list[str]) -> None:
    """Drive one episode in sumo-gui at a watchable speed."""
    options = cli(WatchOptions, argv, "watch")
    from tsc_marl.evaluation.evaluate import find_policy
    from tsc_marl.viz import watch as module

    task = _task(options.net, options.timing)
    _check_seed(options.seed)
    if options.delay_ms < 0:
        raise UserError(f"delay-ms must not be negative; got {options.delay_ms}")
    module.watch(task, find_policy(options.controller, task), options.seed, options.delay_ms, options.quit_on_end)


def explain(argv: list[str]) -> None:
    """Show how a trained policy values its phases: a table of every decision, and which signals matter for others."""
    options = cli(ExplainOptions, argv, "explain")
    from tsc_marl.analysis import explain as module
    from tsc_marl.evaluation.evaluate import find_policy, policy_labels

    task = _task(options.net, options.timing)
    check_eval_seeds((options.seed,), "seed")
    policy = find_policy(options.run, task)
    make_folder(options.out)
    story = module.play(task, policy, options.seed)
    path = options.out / f"decisions_{task.network}_{policy_labels([options.run])[options.run]}.csv"
    title = f"{policy.name} on {task.network}, seed {options.seed}: delay {story.figures['delay']:.1f} s"
    module.write(path, story)
    module.draw(path.with_suffix(".png"), task, story, f"{title}; how much depends on each signal's choice")
    console.show(module.table(title, story))
    console.say(f"{module.legend(story)}\nevery decision: {path}; map: {path.with_suffix('.png')}")


def video(argv: list[str]) -> None:
    """Draw a stretch of an episode as a video, one controller or two side by side."""
    options = cli(VideoOptions, argv, "video")
    from tsc_marl.evaluation.evaluate import find_policy, policy_labels
    from tsc_marl.viz import video as module

    check_list("controller", options.controller)
    if len(options.controller) > 2:
        raise UserError(f"controller takes one or two, side by side; got {' '.join(options.controller)}")
    task = _task(options.net, options.timing)
    _check_seed(options.seed)
    policies = {label: find_policy(name, task) for name, label in policy_labels(options.controller).items()}
    module.validate(task, options.from_s, options.to_s, options.out)
    module.write(task, policies, options.seed, options.from_s, options.to_s, options.out, console.say)


def ui(argv: list[str]) -> None:
    """Open MLflow's pages on the trainings of this folder, or of TSC_MARL_HOME."""
    options = cli(UiOptions, argv, "ui")
    from tsc_marl.tracking import ui as module

    module.serve(options.port)


def nets(argv: list[str]) -> None:
    """List the road networks: signals, phases, lanes, vehicles, window, licence."""
    options = cli(NetsOptions, argv, "nets")
    from tsc_marl.evaluation import tables
    from tsc_marl.sim import scenario

    console.show(tables.networks_table([scenario.load(name) for name in options.net or scenario.available()]))


def bench(argv: list[str]) -> None:
    """Measure speed, as ratios within one run."""
    options = cli(BenchOptions, argv, "bench")
    from tsc_marl.benchmarks import speed as module

    module.run(options.only)


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**31:
        raise UserError(f"seed must lie in 0 .. {2**31 - 1}; got {seed}")


def _task(network: str, timing: str, demand: Demand | None = None) -> Any:
    from tsc_marl.rollout.types import Task
    from tsc_marl.rollout.worker import check_task

    task = Task(network, read_timing(timing), demand=demand or Demand())
    for note in check_task(task):
        print(note)
    return task


VERBS: dict[str, Callable[[list[str]], None]] = {
    verb.__name__.rstrip("_"): verb
    for verb in (train, study, evaluate, results, compare, explain, probe, report, export, import_, watch, video, ui, nets, bench)
}


def _usage() -> None:
    print("usage: python -m tsc_marl VERB [OPTIONS]\n")
    for name, verb in VERBS.items():
        print(f"  {name:10s}{(verb.__doc__ or '').splitlines()[0]}")
    print("\npython -m tsc_marl VERB --help explains every option.")


def _nobody_reads() -> bool:
    """Whether what we print goes to a pipe that its reader has closed."""
    poll = select.poll()
    poll.register(sys.stdout, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def main(argv: list[str]) -> int:
    """Run one verb; return the exit code: 0, 2 for a user's mistake, 130 for Ctrl-C and SIGTERM, 141 for `| head`."""
    try:
        if not argv or argv[0] in ("-h", "--help"):
            _usage()
        elif argv[0] in VERBS:
            VERBS[argv[0]](argv[1:])
        else:
            raise unknown("verb", argv[0], VERBS)
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

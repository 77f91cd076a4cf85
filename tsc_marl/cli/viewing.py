"""Verbs that show what a policy does: in a window, as a clip, as tables and pictures, and MLflow's pages."""

from pathlib import Path
from typing import TYPE_CHECKING

from tsc_marl import console
from tsc_marl.bounds import check_list
from tsc_marl.cli.options import BranchOptions, ExplainOptions, LocksOptions, ShowOptions, UiOptions, VideoOptions, WatchOptions
from tsc_marl.cli.tasks import check_seed, open_task
from tsc_marl.config import check_eval_seeds, cli, command_line
from tsc_marl.errors import UserError
from tsc_marl.paths import file_name, make_folder

if TYPE_CHECKING:
    from tsc_marl.analysis.branch_file import Branches
    from tsc_marl.rollout.types import Policy, Task


def watch(argv: list[str]) -> None:
    """Drive one episode in sumo-gui at a watchable speed."""
    options = cli(WatchOptions, argv, "watch")
    from tsc_marl.tracking.policies import SHIPPED, find_policy
    from tsc_marl.viz import watch as module

    task = open_task(options.network, options.timing_preset)
    check_seed(options.seed)
    policy = find_policy(options.policy, task)
    name = SHIPPED if options.policy == SHIPPED else policy.name
    module.watch(task, policy, options.seed, options.delay_ms, options.quit_on_end, options.signal, name)


def explain(argv: list[str]) -> None:
    """Show how a trained policy values the phases at each decision."""
    options = cli(ExplainOptions, argv, "explain")
    from tsc_marl.analysis import explain as module
    from tsc_marl.sim import signal_sheet
    from tsc_marl.tracking.policies import find_policy, policy_labels

    task = open_task(options.network, options.timing_preset)
    check_eval_seeds((options.seed,), "seed")
    policy = find_policy(options.policy, task)
    make_folder(options.out)
    trace = module.play(task, policy, options.seed)
    label = policy_labels([options.policy])[options.policy]
    path = options.out / f"{file_name(f'decisions_{task.network}_{label}')}.csv"
    title = f"{label} on {task.network}, seed {options.seed}: delay {trace.metrics['delay']:.1f} s"
    sheets = signal_sheet.of_scenario(task.scenario)
    module.write(path, trace, {sheet.name: ["; ".join(sheet.movements(phase)) for phase in sheet.phases] for sheet in sheets})
    module.draw(path.with_suffix(".png"), task, trace, f"{title}; effect of each signal's choice")
    console.show(module.table(title, trace), module.MINOR)
    console.say(f"{module.legend(trace)}\nevery decision: {path}; map: {path.with_suffix('.png')}")


def locks(argv: list[str]) -> None:
    """Show which vehicles stand for minutes, who blocks whom, and why."""
    options = cli(LocksOptions, argv, "locks")
    from tsc_marl.analysis import locks as module
    from tsc_marl.tracking.policies import find_policy, policy_labels
    from tsc_marl.viz import lock_map

    task = open_task(options.network, options.timing_preset)
    check_eval_seeds(options.eval_seeds)
    policy = find_policy(options.policy, task)
    make_folder(options.out)
    results = module.play(task, policy, options.eval_seeds, options.standing_s, options.workers)
    stem = file_name(f"locks_{task.network}_{policy_labels([options.policy])[options.policy]}")
    path = options.out / f"{stem}.csv"
    module.write(path, results)
    found = [(result.job.sumo_seed, i, lock) for result in results for i, lock in enumerate(result.locks, 1)]
    for seed, i, lock in found:
        text = module.sentence(seed, lock)
        picture = options.out / f"{stem}_{seed}_{i}.png"
        lock_map.draw(picture, task.scenario.net, lock, f"{policy.name} on {task.network}, {text}")
        console.show(module.table(seed, lock, module.rows_each(len(found))))
        console.say(f"{text}; map: {picture}")
    locked = len({seed for seed, _, _ in found})
    console.say(f"{locked} of {len(results)} episodes have vehicles that stand {options.standing_s:.0f} s: {path}")


def branch(argv: list[str]) -> None:
    """Measure how a signal's phase changes its own delay and that of others."""
    options = cli(BranchOptions, argv, "branch")
    from tsc_marl.analysis import branching as module

    branches = _read(options) if options.file else _branched(options)
    make_folder(options.out)
    path = _branch_file(options.out, branches.header.network, branches.header.policy)
    if options.file and path.resolve() not in [given.resolve() for given in options.file]:
        branches.save(path)
    picture = path.with_suffix(".png")
    module.draw(picture, branches)
    console.say(module.verdict(branches))
    for table in module.tables(branches):
        console.show(table)
    console.say(f"branches: {path}; picture: {picture}")


def _branch_file(folder: Path, network: str, label: str) -> Path:
    return folder / f"{file_name(f'branches_{network}_{label}')}.npz"


def _branched(options: BranchOptions) -> "Branches":
    """Play the branches and write them."""
    from tsc_marl.analysis import branching as module
    from tsc_marl.tracking.policies import find_policy, policy_labels

    task = open_task(options.network, options.timing_preset)
    check_eval_seeds(options.seeds, "seeds")
    policy = find_policy(options.policy, task)
    sample = module.Sample(
        options.seeds, options.states, options.signals, options.continuations, options.horizon_s, options.greedy
    )
    module.check(task, policy, sample)
    make_folder(options.out)
    label = policy_labels([options.policy])[options.policy]
    path = _branch_file(options.out, task.network, label)
    return module.play(task, policy, label, options.timing_preset, sample, options.workers, path)


def _read(options: BranchOptions) -> "Branches":
    """Return the branches of files; with a trained policy, with the estimates of its critic."""
    from tsc_marl import controllers
    from tsc_marl.analysis import branching as module
    from tsc_marl.analysis.branch_file import Branches, together
    from tsc_marl.rollout.policies import TrainedPolicy
    from tsc_marl.tracking.policies import find_policy

    branches = together([Branches.load(path) for path in options.file])
    if controllers.exists(options.policy):
        return branches
    task, of = open_task(options.network, branches.header.timing), branches.header.network
    if task.network != of:
        raise UserError(f"the branches are of {of}, got network {task.network}; give --network {of}")
    policy = find_policy(options.policy, task)
    assert isinstance(policy, TrainedPolicy)
    return module.with_critic(branches, task, policy)


def video(argv: list[str]) -> None:
    """Draw a clip of an episode as a video, one policy or two."""
    options = cli(VideoOptions, argv, "video")
    from tsc_marl.viz import video as module

    task, policies = _side_by_side(options)
    module.validate(task, options.from_s, options.to_s, options.out)
    module.write(task, policies, options.seed, options.from_s, options.to_s, options.out)


def show(argv: list[str]) -> None:
    """Write a page that plays an episode, one policy or two."""
    options = cli(ShowOptions, argv, "show")
    from tsc_marl.viz.show import page as module

    task, policies = _side_by_side(options)
    to_s = module.check(task, options.to_s, options.out)
    module.write(task, policies, options.seed, to_s, options.out, command_line("show", argv))


def _side_by_side(options: VideoOptions | ShowOptions) -> "tuple[Task, dict[str, Policy]]":
    """Return the task, and one policy or two by the name over their map."""
    from tsc_marl.tracking.policies import find_policy, policy_labels

    check_list("policy", options.policy)
    if len(options.policy) > 2:
        raise UserError(f"policy takes one or two, side by side; got {' '.join(options.policy)}")
    task = open_task(options.network, options.timing_preset)
    check_seed(options.seed)
    return task, {label: find_policy(name, task) for name, label in policy_labels(options.policy).items()}


def ui(argv: list[str]) -> None:
    """Open MLflow on the trainings of this folder, or of TSC_MARL_HOME."""
    options = cli(UiOptions, argv, "ui")
    from tsc_marl.tracking import ui as module

    module.serve(options.port)

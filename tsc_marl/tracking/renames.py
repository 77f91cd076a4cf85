"""Old names of settings, weights and variants, and the names of today: files of earlier versions load through this table."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Value = TypeVar("Value")

ALGORITHM_SETTINGS = {
    "kappa": "others_weight", "rho": "sampled_share", "trust": "others_trust", "adv": "advantage", "lam": "gae_lambda",
    "lr_end": "lr_final_fraction", "epsilon_until": "exploration_fraction",
    "windows": "batch_size", "window": "sequence_length", "updates": "gradient_steps", "rollout": "rollout_length",
    "chunk": "bptt_length", "minibatches": "num_minibatches", "clip": "clip_coef", "entropy": "entropy_coef",
    "value_keep": "value_norm_decay", "opt": "lambda_opt", "nopt": "lambda_nopt",
    "hard_every_updates": "target_update_interval", "hard_every_episodes": "target_update_interval_episodes",
}  # fmt: skip
"""Settings of algorithms, `algo.<name>`."""
RETIRED = ("credit", "credit_scope", "tie_heads", "shared_head")
"""Settings of jointq's earlier critic, which are left out; so is its `mixer`."""
ADVANTAGES = {"own": "own_plus_others", "doc1": "one_step_team", "doc_lambda": "lambda_team"}
"""Values of `algo.advantage`; none of the old ones is a value of today."""
DEMAND_SETTINGS = {"turns": "reroute_share"}
"""Settings of `demand.<name>` and `eval_demand.<name>`."""
COMMAND_SETTINGS = {"net": "network", "timing": "timing_preset"}
"""Settings of a command."""
GROUPS = {"signal": "timing"}
"""Groups of settings, `<group>.<name>`."""
VARIANTS = {"jointq-doc1": "jointq-one_step_team", "jointq-doc_lambda": "jointq-lambda_team"}
"""Variants of algorithms."""
DISTURBANCES = {
    "demand-0.7": "demand-70", "demand-1.3": "demand-130",
    "blind-20%": "blind-20", "frozen-20%": "frozen-20", "missed-20%": "missed-20",
}  # fmt: skip
"""Disturbances of an evaluation."""
WEIGHTS = {"joint.": "mixer.", "target_joint.": "target_mixer."}
"""First part of the names of weights."""
EXTRAS = {"memory": "hidden"}
"""What an algorithm returns beside its actions, as a replay holds it."""
EVALUATION_PARTS = {"signal": "timing", "stress": "disturbance"}
"""Parts of an evaluation's conditions."""


def renamed(values: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, Value]:
    """Return a mapping with the keys of today, in the same order."""
    return {names.get(key, key): value for key, value in values.items()}


def variant(name: str) -> str:
    """Return today's name of an algorithm or a variant."""
    return VARIANTS.get(name, name)


def algorithm_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return an algorithm's settings, by name, in the names and values of today."""
    today = _without_retired(renamed(settings, ALGORITHM_SETTINGS), "")
    if "advantage" in today:
        today["advantage"] = ADVANTAGES.get(today["advantage"], today["advantage"])
    return today


def _without_retired(settings: Mapping[str, Any], group: str) -> dict[str, Any]:
    mixer = ("mixer",) if group + "others_weight" in settings else ()
    return {name: value for name, value in settings.items() if name not in [group + old for old in (*RETIRED, *mixer)]}


def metrics(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return metrics of an episode, by name: `person_delay` had the walks alone, while there was no `walk_delay`.

    >>> metrics({"unfinished_walks": 2.0, "person_delay": 61.5})
    {'unfinished_walks': 2.0, 'walk_delay': 61.5}
    """
    before = "unfinished_walks" in values and "walk_delay" not in values
    return renamed(values, {"person_delay": "walk_delay"} if before else {})


def weights(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Return weights under the names of today."""
    return {
        next((today + key.removeprefix(old) for old, today in WEIGHTS.items() if key.startswith(old)), key): tensor
        for key, tensor in tensors.items()
    }


def setting(name: str) -> str:
    """Return today's name of a setting with its group.

    >>> setting("algo.kappa"), setting("signal.yellow_s"), setting("eval_demand.turns")
    ('algo.others_weight', 'timing.yellow_s', 'eval_demand.reroute_share')
    """
    group, dot, own = name.rpartition(".")
    if not dot:
        return COMMAND_SETTINGS.get(name, name)
    names = {"algo": ALGORITHM_SETTINGS, "demand": DEMAND_SETTINGS, "eval_demand": DEMAND_SETTINGS}.get(group, {})
    return f"{GROUPS.get(group, group)}.{names.get(own, own)}"


def settings(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return all settings of a training, flat as `algo.lr: value`, in the names and values of today."""
    today: dict[str, Any] = _without_retired({setting(key): value for key, value in values.items()}, "algo.")
    advantage = today.get("algo.advantage")
    if advantage in ADVANTAGES:
        today["algo.advantage"] = ADVANTAGES[advantage]
    return today


def words(command_line: Sequence[str]) -> list[str]:
    """Return the words of a command line with today's settings of algorithms and demand, variants and disturbances.

    >>> words(["--algos", "jointq-doc1", "--algo.kappa", "0.5", "--algo.adv=own"])
    ['--algos', 'jointq-one_step_team', '--algo.others_weight', '0.5', '--algo.advantage=own_plus_others']
    """
    today, option = [], ""
    for word in command_line:
        if word.startswith("--"):
            written, equals, value = word.partition("=")
            name = written[2:].replace("-", "_")
            option = setting(name) if name.startswith(("algo.", "demand.", "eval_demand.")) else name
            written = written if option == name else f"--{option}"
            today.append(written + equals + _value(option, value))
        else:
            today.append(_value(option, word))
    return today


def _value(option: str, value: str) -> str:
    return {"algo.advantage": ADVANTAGES, "algos": VARIANTS, "disturbances": DISTURBANCES}.get(option, {}).get(value, value)

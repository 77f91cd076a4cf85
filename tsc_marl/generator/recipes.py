"""What a seed stands for: layout, streets, signal plans and demand of one network."""

from dataclasses import dataclass

import numpy as np

SPEEDS_MS = (8.33, 11.11, 13.89, 16.67, 19.44)
"""30, 40, 50, 60 and 70 km/h."""
PLANS = ("permissive", "protected_permissive", "protected", "split", "pairs")
"""Kinds of signal plans, see `signal_plans`."""
PROFILE_PARTS = 6


@dataclass(frozen=True)
class Recipe:
    """What one network is made of. A share is the probability of a feature at each place where it may be."""

    layout: str
    """grid, ring, town, arterial or single."""
    spacing_m: float
    """Between junctions, on average."""
    main_lanes: int
    side_lanes: int
    main_speed_ms: float
    side_speed_ms: float
    uneven: float
    """Share of directions with a lane more or less."""
    one_way: float
    """Share of side lines."""
    signals: float
    """Share of junctions with a signal; of those of main streets half of the others have one too. The rest has signs."""
    pockets: float
    """Share of approaches with a lane for left turns, and half as often one for right turns."""
    pocket_m: float
    stubs: float
    """Share of approaches whose last metres are an edge of their own."""
    turnarounds: bool
    plans: tuple[float, ...]
    """Share of each of `PLANS`."""
    most_phases: int
    """Of a plan of pairs."""
    right_on_red: bool
    duration_s: int
    flow_ratio: float
    """Of the busiest junction, on average over the window (Webster 1958); about 1 where it cannot serve more."""
    profile: tuple[float, ...]
    """Demand in equal parts of the window, 1 on average."""
    inner: float
    """Share of trips that start inside the network, and of those that end there."""
    cut: float
    """Share of streets to the outside that end close to their junction, so that queues grow out of sight."""


def draw(seed: int) -> Recipe:
    """Return the recipe of a seed."""
    rng = np.random.default_rng([seed, 1])
    main_lanes = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.4, 0.17, 0.08]))
    main_speed = int(rng.choice(5, p=[0.1, 0.15, 0.45, 0.2, 0.1]))
    return Recipe(
        layout=str(rng.choice(["grid", "ring", "town", "arterial", "single"], p=[0.25, 0.1, 0.35, 0.15, 0.15])),
        spacing_m=float(rng.choice([rng.uniform(90, 160), rng.uniform(130, 260), rng.uniform(230, 400)], p=[0.3, 0.5, 0.2])),
        main_lanes=main_lanes,
        side_lanes=int(rng.integers(1, main_lanes + 1)) if rng.random() < 0.5 else 1,
        main_speed_ms=SPEEDS_MS[main_speed],
        side_speed_ms=SPEEDS_MS[int(rng.integers(max(0, main_speed - 2), main_speed + 1))],
        uneven=float(rng.choice([0, 0.15, 0.3])),
        one_way=float(rng.choice([0, 0.15, 0.35], p=[0.5, 0.3, 0.2])),
        signals=float(rng.choice([1, 0.8, 0.55], p=[0.5, 0.3, 0.2])),
        pockets=float(rng.choice([0, 0.4, 1], p=[0.3, 0.3, 0.4])),
        pocket_m=float(rng.uniform(25, 80)),
        stubs=float(rng.choice([0, 0.4], p=[0.65, 0.35])),
        turnarounds=bool(rng.random() < 0.2),
        plans=_plans(rng),
        most_phases=int(rng.integers(4, 9)),
        right_on_red=bool(rng.random() < 0.25),
        duration_s=int(rng.choice([1800, 3600], p=[0.75, 0.25])),
        flow_ratio=float(
            rng.choice([rng.uniform(0.02, 0.45), rng.uniform(0.45, 0.8), rng.uniform(0.8, 1.1)], p=[0.35, 0.45, 0.2])
        ),
        profile=_profile(rng),
        inner=float(rng.choice([0, 0.15, 0.35])),
        cut=float(rng.choice([0, 0.5, 1], p=[0.3, 0.35, 0.35])),
    )


def _plans(rng: np.random.Generator) -> tuple[float, ...]:
    """Return one kind of plan for all signals, or a mixture."""
    popular = [0.2, 0.2, 0.15, 0.1, 0.35]
    if rng.random() < 0.6:
        return tuple(np.eye(len(PLANS))[rng.choice(len(PLANS), p=popular)].tolist())
    return tuple(rng.dirichlet(np.array(popular) * len(PLANS)).tolist())


def _profile(rng: np.random.Generator) -> tuple[float, ...]:
    """Return a level, a peak, or ups and downs."""
    kind = rng.integers(3)
    time = (np.arange(PROFILE_PARTS) + 0.5) / PROFILE_PARTS
    peak = 0.5 + rng.uniform(0.5, 1.5) * np.exp(-(((time - rng.uniform(0.3, 0.7)) / 0.2) ** 2))
    values = np.ones(PROFILE_PARTS) if kind == 0 else peak if kind == 1 else rng.uniform(0.3, 1.7, PROFILE_PARTS)
    return tuple((values / values.mean()).round(3).tolist())

"""Properties of the timing state machine, checked on the sequence of shown states alone, second by second."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tsc_marl.errors import UserError
from tsc_marl.evaluation.phase_log import limit_violations
from tsc_marl.evaluation.signal_log import timing_violations
from tsc_marl.sim.signal_limits import NO_LIMITS, SignalLimits
from tsc_marl.sim.signal_timer import SignalTimer
from tsc_marl.sim.signal_timing import Crossing, Timing

GREENS = "Gg"
SECONDS = 400
TIMINGS = (
    Timing(),
    Timing(yellow_s=3, all_red_s=2, min_green_s=7, max_red_s=120),
    Timing(yellow_s=3, all_red_s=2, min_green_s=7),
    Timing(decision_s=1, yellow_s=4, all_red_s=1, min_green_s=6, max_red_s=90),
    Timing(decision_s=3, yellow_s=0, all_red_s=0, min_green_s=1, max_red_s=60),
    Timing(decision_s=7, yellow_s=0, all_red_s=3, min_green_s=5, max_red_s=100),
    Timing(decision_s=2, yellow_s=5, all_red_s=3, min_green_s=2),
    Timing(decision_s=10, yellow_s=3, all_red_s=0, min_green_s=4, max_red_s=75),
    Timing(min_walk_s=10, max_crossing_red_s=60),
    Timing(yellow_s=3, all_red_s=2, min_green_s=7, max_red_s=150, max_crossing_red_s=90, walking_ms=1.0),
)


@st.composite
def phase_sets(draw):
    """2 to 8 phases over 2 to 10 links, each with a green somewhere; they may overlap or contain one another."""
    n_links = draw(st.integers(2, 10))
    state = st.text(alphabet="Ggrrrs", min_size=n_links, max_size=n_links).filter(lambda s: set(s) & set(GREENS))
    return tuple(draw(st.lists(state, min_size=2, max_size=8, unique=True)))


@st.composite
def timings(draw):
    decision, yellow, all_red, green = (draw(st.integers(*bounds)) for bounds in ((1, 10), (0, 5), (0, 3), (1, 12)))
    least = yellow + all_red + green
    return Timing(decision, yellow, all_red, green, draw(st.none() | st.integers(least, least + 120)))


def play(phases, timing, requests, start=0.0, crossings=(), limits=NO_LIMITS):
    """Drive a timer as the environment does; return the state shown in every second."""
    timer = SignalTimer("a", phases, timing, start, crossings, limits)
    shown, requests = [], iter(requests)
    state = timer.pop_due_state(start)
    for now in np.arange(start, start + SECONDS).tolist():
        state = timer.pop_due_state(now) or state
        if (now - start) % timing.decision_s == 0:
            legal = timer.legal(now).copy()
            assert legal.shape == (len(phases),)
            assert legal.any(), f"nothing legal at {now}"
            before, asked = timer.phase, next(requests)
            executed = timer.request(asked, now)
            assert legal[executed], f"{executed} executed at {now}, legal {legal}"
            assert timer.phase == executed
            if legal[asked]:
                assert executed == asked, "a legal wish was not granted"
            elif legal[before]:
                assert executed == before, "an illegal wish must mean to stay"
            state = timer.pop_due_state(now) or state
        assert timer.next_event_s() > now
        shown.append(state)
    return shown


def wishes(data_seed, n, n_phases, stay):
    """Random wishes that come in stretches: long stays press on max red, quick changes on min green."""
    rng = np.random.default_rng(data_seed)
    wish = 0
    for _ in range(n):
        if rng.random() > stay:
            wish = int(rng.integers(n_phases))
        yield wish


@settings(max_examples=150, deadline=None)
@given(
    timing=st.sampled_from(TIMINGS) | timings(),
    phases=phase_sets(),
    seed=st.integers(0, 2**32 - 1),
    stay=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    start=st.sampled_from([0.0, 25200.0]),
    lengths_m=st.dictionaries(st.integers(0, 9), st.floats(1.0, 25.0), max_size=3),
)
def test_whatever_is_asked_the_lights_keep_the_timing(timing, phases, seed, stay, start, lengths_m):
    crossings_m = {link: length_m for link, length_m in lengths_m.items() if link < len(phases[0])}
    crossings = [Crossing(*crossing) for crossing in crossings_m.items()]
    for _ in range(2):  # both longest reds may be too short
        try:
            SignalTimer("a", phases, timing, start, crossings)
        except UserError as error:
            timing = refused(str(error), timing)  # the tightest
    shown = play(phases, timing, wishes(seed, SECONDS, len(phases), stay), start, crossings)
    assert not list(timing_violations(shown, timing, crossings=crossings_m))
    assert set(shown) & set(phases)


@st.composite
def limits_of(draw, n_phases, timing):
    """Limits for so many phases, of every kind, alone and together."""
    seconds = st.integers(1, 12)
    allowed = draw(st.just(()) | st.lists(st.integers(0, n_phases - 1), min_size=2, unique=True).map(sorted).map(tuple))
    least_s = draw(st.none() | seconds | st.lists(st.none() | seconds, min_size=n_phases, max_size=n_phases).map(tuple))
    yellow_s = draw(st.none() | st.integers(0, 5))
    shortest_s = timing.yellow_s if yellow_s is None else yellow_s
    row = st.lists(st.none() | st.integers(shortest_s, shortest_s + 9), min_size=n_phases, max_size=n_phases).map(tuple)
    intergreen = draw(st.just(()) | st.lists(row, min_size=n_phases, max_size=n_phases).map(tuple))
    most_s = draw(st.none() | st.integers(1, 60) | st.just((20,) + (None,) * (n_phases - 1)))
    order, all_red_s = draw(st.sampled_from(["free", "fixed"])), draw(st.none() | st.integers(0, 4))
    return SignalLimits(allowed, order, least_s, most_s, yellow_s, all_red_s, intergreen)


def without_clearing(phases, crossings):
    """Leave out phases that look to vehicles like another one with more crossings: a network has none (`green_phases`)."""
    of_vehicles = [{link for link, char in enumerate(state) if char in GREENS and link not in crossings} for state in phases]
    walks = [{link for link in crossings if state[link] in GREENS} for state in phases]
    rows = list(zip(phases, of_vehicles, walks, strict=True))
    return tuple(state for state, own, walk in rows if not any(own == other and walk < more for _, other, more in rows))


@settings(max_examples=60, deadline=None)
@given(
    timing=st.sampled_from(TIMINGS) | timings(),
    phases=phase_sets(),
    seed=st.integers(0, 2**32 - 1),
    stay=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    lengths_m=st.dictionaries(st.integers(0, 9), st.floats(1.0, 25.0), max_size=2),
    data=st.data(),
)
def test_whatever_is_asked_the_lights_keep_the_limits(timing, phases, seed, stay, lengths_m, data):
    crossings_m = {link: length_m for link, length_m in lengths_m.items() if link < len(phases[0])}
    phases = without_clearing(phases, crossings_m)
    assume(len(phases) > 1)
    limits = data.draw(limits_of(len(phases), timing))
    crossings = [Crossing(*crossing) for crossing in crossings_m.items()]
    while True:  # what cannot be kept is raised to the least that the line names
        try:
            SignalTimer("a", phases, timing, 0.0, crossings, limits)
            break
        except UserError as error:
            if longer := re.search(r"limits.max_green_s \d+ of phase .* raise limits.max_green_s to at least (\d+)", str(error)):
                limits = dataclasses.replace(limits, max_green_s=int(longer[1]))
            else:
                timing = refused(str(error), timing)
    shown = play(phases, timing, wishes(seed, SECONDS, len(phases), stay), 0.0, crossings, limits)
    assert not list(timing_violations(shown, timing, crossings=crossings_m, limits=limits))
    assert not list(limit_violations(shown, phases, limits, timing, crossings_m))


def refused(message, timing):
    """Check that a refusal names both numbers; return the timing with the one that it asks for."""
    match = re.search(r"signal a: timing\.(\w+) (\d+) cannot be kept.* need (\d+) s .*at least (\d+)$", message)
    assert match, message
    given_s, need_s, least_s = map(int, match.groups()[1:])
    assert given_s == getattr(timing, match[1]) < need_s == least_s
    return dataclasses.replace(timing, **{match[1]: least_s})


@pytest.mark.parametrize("timing", TIMINGS, ids=str)
@pytest.mark.parametrize("n_phases", range(2, 9))
def test_disjoint_phases(timing, n_phases):
    """One link a phase: the hardest case for max red. A quick dither, a stubborn stay, and always the same wrong wish."""
    phases = tuple("".join("G" if i == j else "r" for j in range(n_phases)) for i in range(n_phases))
    try:
        SignalTimer("a", phases, timing, 0.0)
    except UserError as error:
        timing = refused(str(error), timing)
        with pytest.raises(UserError):
            SignalTimer("a", phases, dataclasses.replace(timing, max_red_s=timing.max_red_s - 1), 0.0)
    for seed, stay in ((0, 0.0), (1, 0.9), (2, 1.0)):
        shown = play(phases, timing, wishes(seed, SECONDS, n_phases, stay))
        assert not list(timing_violations(shown, timing))
    if timing.max_red_s:  # the stubborn one did not want it, and every link had its green all the same
        assert {i for state in shown for i in range(n_phases) if state[i] in GREENS} == set(range(n_phases))
    else:
        assert set(shown) == {phases[0]}


def test_changes_happen_when_asked():
    """Hand-worked: default timing, two phases, ask for the other at every decision."""
    shown = play(("Gr", "rG"), Timing(), [1, 1, 1, 0, 1, 0, *[0] * 80])
    # the first change waits for 7 s, so for 10; 15 is too early for the next; at 20 the wish is to stay
    assert shown[:40] == ["Gr"] * 10 + ["yr"] * 2 + ["rG"] * 13 + ["ry"] * 2 + ["Gr"] * 13


def test_timing_contradictions_name_both_numbers():
    with pytest.raises(UserError, match=r"max_red_s 9 .*yellow_s 3 .*all_red_s 2 .*min_green_s 7"):
        Timing(yellow_s=3, all_red_s=2, min_green_s=7, max_red_s=9)
    for field, value in (("decision_s", 0), ("yellow_s", -1), ("all_red_s", -1), ("min_green_s", 0)):
        with pytest.raises(UserError, match=f"{field} must .* got {value}"):
            Timing(**{field: value})


def test_max_red_leaves_every_choice_that_can_be_kept():
    """Three disjoint phases, a visit takes 10 s and a change 2 s: what leaves at 10 s has 25 s from its yellow on."""
    timing = Timing(decision_s=5, yellow_s=2, min_green_s=5, max_red_s=25)
    timer = SignalTimer("a", ("Grr", "rGr", "rrG"), timing, 0.0)
    free = {0: [0], 5: [0], 10: [1, 2], 15: [1], 20: [2], 25: [2], 30: [0, 2], 35: [0]}
    wishes = {10: 1, 20: 2, 30: 2, 35: 2}
    executed = {}
    for now, expected in free.items():
        assert np.flatnonzero(timer.legal(now)).tolist() == expected, now
        if now in wishes:
            executed[now] = timer.request(wishes[now], now)
    assert executed == {10: 1, 20: 2, 30: 2, 35: 0}  # at 35 s staying would break it


def test_a_timer_follows_another_program():
    """Green of the first phase until 10 s, yellow until 12 s: the second may end 5 s later."""
    timer = SignalTimer("a", ("Gr", "rG"), Timing(yellow_s=2, min_green_s=5, max_red_s=30), 0.0)
    shown = ["Gr"] * 10 + ["yr"] * 2 + ["rG"] * 100
    assert [timer.follow(state, float(now)) for now, state in enumerate(shown)] == [state != "yr" for state in shown]
    assert (timer.phase, timer.since_change_s(20), timer.green_s(20)) == (1, 10, 8)
    assert [timer.may_change(now) for now in (16, 17)] == [False, True]
    assert timer.legal(112).tolist() == [True, True]
    assert timer.pop_due_state(112) is None

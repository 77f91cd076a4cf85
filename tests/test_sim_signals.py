"""Properties of the timing state machine, checked on the sequence of shown states alone, second by second."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsc_marl.errors import UserError
from tsc_marl.sim.signal_timing import SignalTimer, Timing

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


def play(phases, timing, requests, start=0.0):
    """Drive a timer as the environment does; return the state shown in every second."""
    timer = SignalTimer("a", phases, timing, start)
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


def check(shown, timing):
    """The independent checker: it sees nothing but the states, one a second."""
    change_s = timing.yellow_s + timing.all_red_s
    for t in range(1, len(shown)):
        before, now = shown[t - 1], shown[t]
        losing = [i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a in GREENS and b not in GREENS]
        if not losing:
            continue
        for ahead, state in enumerate(shown[t : t + change_s]):
            expected = "y" if ahead < timing.yellow_s else "r"
            assert {state[i] for i in losing} == {expected}, f"{t} + {ahead}: {before} -> {state}"
            starting = [i for i in range(len(state)) if state[i] in GREENS and before[i] not in GREENS]
            assert not starting, f"link {starting} starts at {t + ahead} before the change that began at {t} is over"
        for state in shown[t + change_s : t + change_s + 1]:
            assert all(state[i] != "y" for i in losing), f"yellow longer than {timing.yellow_s} after {t}"
    for link in range(len(shown[0])):
        for kind, start, end in runs([state[link] for state in shown]):
            ended = end < len(shown)
            if kind == "green" and ended:
                assert end - start >= timing.min_green_s, f"green of link {link} from {start} to {end}"
            if kind == "yellow":
                assert end - start <= timing.yellow_s
            if kind == "red" and timing.max_red_s and any(state[link] in GREENS for state in shown):
                assert end - start <= timing.max_red_s, f"red of link {link} from {start} to {end}"


def runs(chars):
    """Yield (kind, first second, second after the last) of each stretch of one colour."""
    kinds = ["green" if c in GREENS else "yellow" if c == "y" else "red" for c in chars]
    start = 0
    for t in range(1, len(kinds) + 1):
        if t == len(kinds) or kinds[t] != kinds[start]:
            yield kinds[start], start, t
            start = t


CHECKED = Timing(yellow_s=2, all_red_s=1, min_green_s=3, max_red_s=8)
GOOD = ["Gr"] * 4 + ["yr"] * 2 + ["rr"] + ["rG"] * 4
FAULTS = {
    "short yellow": ["Gr"] * 4 + ["yr"] + ["rr"] * 2 + ["rG"] * 4,
    "long yellow": ["Gr"] * 4 + ["yr"] * 3 + ["rG"] * 4,
    "no all-red": ["Gr"] * 4 + ["yr"] * 2 + ["rG"] * 5,
    "green during yellow": ["Gr"] * 4 + ["yG"] * 2 + ["rG"] * 5,
    "no yellow": ["Gr"] * 4 + ["rr"] * 3 + ["rG"] * 4,
    "short green": ["Gr"] * 2 + GOOD[4:],
    "long red": ["Gr"] * 9 + GOOD[4:],
}


def test_the_checker_passes_what_is_right():
    check(GOOD, CHECKED)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checker_sees_each_kind_of_fault(fault):
    with pytest.raises(AssertionError):
        check(FAULTS[fault], CHECKED)


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
)
def test_whatever_is_asked_the_lights_keep_the_timing(timing, phases, seed, stay, start):
    try:
        SignalTimer("a", phases, timing, start)
    except UserError as error:
        needed = refused(str(error), timing)
        timing = Timing(timing.decision_s, timing.yellow_s, timing.all_red_s, timing.min_green_s, needed)  # the tightest
    shown = play(phases, timing, wishes(seed, SECONDS, len(phases), stay), start)
    check(shown, timing)
    assert set(shown) & set(phases)


def refused(message, timing):
    """Check that a refusal names both numbers; return the one that it asks for."""
    match = re.search(r"signal a: timing.max_red_s (\d+) cannot be kept.* need (\d+) s .*at least (\d+)$", message)
    assert match, message
    given_s, need_s, least_s = map(int, match.groups())
    assert given_s == timing.max_red_s < need_s == least_s
    return least_s


@pytest.mark.parametrize("timing", TIMINGS, ids=str)
@pytest.mark.parametrize("n_phases", range(2, 9))
def test_disjoint_phases(timing, n_phases):
    """One link a phase: the hardest case for max red. A quick dither, a stubborn stay, and always the same wrong wish."""
    phases = tuple("".join("G" if i == j else "r" for j in range(n_phases)) for i in range(n_phases))
    try:
        SignalTimer("a", phases, timing, 0.0)
    except UserError as error:
        least = refused(str(error), timing)
        with pytest.raises(UserError):
            SignalTimer("a", phases, Timing(timing.decision_s, *astuple(timing)[1:4], least - 1), 0.0)
        timing = Timing(timing.decision_s, *astuple(timing)[1:4], least)
    for seed, stay in ((0, 0.0), (1, 0.9), (2, 1.0)):
        shown = play(phases, timing, wishes(seed, SECONDS, n_phases, stay))
        check(shown, timing)
    if timing.max_red_s:  # the stubborn one did not want it, and every link had its green all the same
        assert {i for state in shown for i in range(n_phases) if state[i] in GREENS} == set(range(n_phases))
    else:
        assert set(shown) == {phases[0]}


def astuple(timing):
    return timing.decision_s, timing.yellow_s, timing.all_red_s, timing.min_green_s, timing.max_red_s


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

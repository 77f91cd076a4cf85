"""Statistics of the comparison against closed forms and known distributions."""

import numpy as np
import pytest
from scipy.stats import PermutationMethod, mannwhitneyu, norm, ttest_ind

from tsc_marl.evaluation import significance, statistics


def mean(values):
    return values.mean(axis=-1)


def test_the_interquartile_mean_by_hand():
    assert statistics.iqm(np.array([1, 2, 3, 4, 100, 5, 6, -50])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    assert statistics.iqm(np.full((3, 8), 7.0)).tolist() == [7, 7, 7]


def test_the_interval_comes_from_seeds_not_from_episodes():
    """5 trainings whose levels vary, a thousand episodes each that do not: mean -+ 1.96 sd / sqrt(5), the bootstrap's sd."""
    levels = np.array([10.0, 12.0, 14.0, 16.0, 18.0])
    values = np.repeat(levels[:, None], 50, axis=1)
    low, high = statistics.bootstrap(values, mean)
    spread = levels.std() / np.sqrt(5)
    assert (low, high) == pytest.approx((14 - 1.96 * spread, 14 + 1.96 * spread), abs=0.35)
    assert np.isnan(statistics.bootstrap(values[:1], mean)).all()


def test_the_interval_covers_the_truth():
    """Normal levels of trainings and of episodes; with 10 seeds a percentile bootstrap covers somewhat less than 95 %."""
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        values = rng.normal(20, 2, (10, 1)) + rng.normal(0, 1, (10, 10))
        low, high = statistics.bootstrap(values, mean, 500)
        covered += low <= 20 <= high
    assert 84 <= covered <= 100


@pytest.mark.sumo
def test_improvement_is_mann_whitneys():
    assert statistics.probability_of_improvement([1, 2], [3, 4])[0] == 1
    assert statistics.probability_of_improvement([3, 4], [1, 2])[0] == 0
    assert statistics.probability_of_improvement([1, 3], [2, 3])[0] == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert np.isnan(statistics.probability_of_improvement([1.0], [2.0, 3.0])[1:]).all()
    rng = np.random.default_rng(0)
    p, low, high = statistics.probability_of_improvement(rng.normal(0, 1, 100), rng.normal(1, 1, 100))
    assert low < norm.cdf(1 / np.sqrt(2)) < high  # P(X < Y) of two normals one deviation apart
    assert p == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.05)
    alike = [statistics.probability_of_improvement(*rng.normal(0, 1, (2, 100))) for _ in range(8)]
    width = np.mean([high - low for _, low, high in alike])
    assert width == pytest.approx(2 * 1.96 * np.sqrt(201 / (12 * 100 * 100)), rel=0.1)  # Mann-Whitney's own deviation


def test_one_network_is_tested_as_by_scipy():
    rng = np.random.default_rng(0)
    for sizes, digits in (((5, 5), 6), ((5, 6), 0), ((4, 3), 6), ((15, 16), 1)):
        pair = [np.round(rng.normal(shift, 1, n), digits) for shift, n in zip((0, 1), sizes, strict=True)]
        expected = mannwhitneyu(*pair, method=PermutationMethod(rng=0)).pvalue
        assert significance.p_value(tuple(pair)) == pytest.approx(expected, abs=0.01 if sum(sizes) > 20 else 1e-9)
    assert np.isnan(significance.p_value(([1.0], [2.0, 3.0])))
    assert significance.p_value(([1.0, np.inf], [np.inf, np.inf])) == 1


def test_several_networks_speak_together():
    apart = (range(5), range(5, 10))
    assert significance.p_value(apart) == pytest.approx(2 / 252)
    assert significance.p_value(apart, apart, apart) == pytest.approx(2 / 252**3)
    assert significance.p_value(apart, apart[::-1]) == 1
    rng = np.random.default_rng(0)
    found = np.mean([significance.p_value(*rng.normal(0, 1, (2, 2, 5))) < 0.05 for _ in range(400)])
    assert 0.02 <= found <= 0.06  # nothing to find


def test_holm_by_hand():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.5, np.nan, 0.6]) == pytest.approx([1, np.nan, 1], nan_ok=True)


def test_the_minimum_detectable_difference_is_detected_as_often_as_it_says():
    rng = np.random.default_rng(0)
    values = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) / np.sqrt(0.625)  # deviation 1
    least = significance.minimum_detectable_difference(values, values + 7)
    assert least == pytest.approx(2.02, abs=0.01)  # tables of Cohen's d for two groups of 5
    _, p = ttest_ind(rng.normal(0, 1, (4000, 5)), rng.normal(least, 1, (4000, 5)), axis=1)
    assert (p < 0.05).mean() == pytest.approx(significance.POWER, abs=0.03)
    assert np.isnan(significance.minimum_detectable_difference([1.0], [2.0, 3.0]))


def test_episodes_to_threshold():
    """Updates of two episodes; the mean of ten falls to 30 when five updates at 30 have passed, 4 updates after the first."""
    episode = np.arange(2, 42, 2.0)
    delay = np.where(episode <= 20, 90.0, 30.0)
    assert np.isnan(statistics.smoothed(episode, delay)[:4]).all()
    assert statistics.smoothed(episode, delay)[4] == 90
    assert statistics.smoothed(episode, delay)[10] == pytest.approx((4 * 90 + 30) / 5)
    assert statistics.episodes_to_threshold(episode, episode, delay, 30) == 30
    assert statistics.episodes_to_threshold(episode / 10, episode, delay, 30) == 3
    assert statistics.episodes_to_threshold(episode, episode, delay, 80) == 22
    assert statistics.episodes_to_threshold(episode, episode, delay, 29) == np.inf


def test_mean_training_delay_and_final_slope():
    episode = np.array([2.0, 4.0, 8.0])
    assert statistics.mean_training_delay(episode, np.array([10.0, 20.0, 40.0])) == pytest.approx((2 * 10 + 2 * 20 + 4 * 40) / 8)
    episode = np.arange(1, 101.0)
    assert statistics.final_slope(episode, np.maximum(50.0, 150 - 2 * episode)) == pytest.approx(0)
    assert statistics.final_slope(episode, 150 - episode) == pytest.approx(-25)
    assert np.isnan(statistics.final_slope(np.array([2.0]), np.array([5.0])))


@pytest.mark.parametrize(("trainings", "share"), [(2, 0.54), (3, 0.74), (5, 0.86), (10, 0.94)])
def test_coverage_of_the_interval_for_few_trainings(trainings, share):
    """The shares that `compare.caution` tells; 300 draws have a standard error of .03 at most."""
    random, held = np.random.default_rng(1), 0
    for _ in range(300):
        values = random.normal(0, 1, (trainings, 1)) + random.normal(0, 0.3, (trainings, 10))
        low, high = statistics.bootstrap(values, statistics.iqm, resamples=1000)
        held += low <= 0 <= high
    assert held / 300 == pytest.approx(share, abs=0.06)

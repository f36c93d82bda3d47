"""Scores of labels are scikit-learn's, and the best threshold is the best of all that could be tried."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyhead.errors import DataError
from polyhead.tasks.label_scores import best_thresholds, label_scores, truth_of

metrics: Any = import_module("sklearn.metrics")  # whose types refuse what it takes
seeds = given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 6))
NAMES = "abcdef"


@seeds
@settings(deadline=None, max_examples=25)
def test_scores_of_labels_that_exclude_each_other_are_the_references(seed: int, n: int, n_labels: int) -> None:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(n_labels), n)
    there = random.integers(0, n_labels, n)
    found = label_scores(p, truth_of([[k] for k in there], n_labels), NAMES[:n_labels])
    given_labels, how = p.argmax(1), {"labels": range(n_labels), "zero_division": 0}
    assert found.accuracy == pytest.approx(metrics.accuracy_score(there, given_labels))
    assert found.micro_f1 == pytest.approx(metrics.f1_score(there, given_labels, average="micro", **how))
    assert found.macro_f1 == pytest.approx(metrics.f1_score(there, given_labels, average="macro", **how))
    assert found.loss == pytest.approx(metrics.log_loss(there, p, labels=range(n_labels)))
    precision, recall, f1, count = metrics.precision_recall_fscore_support(there, given_labels, **how)
    told = [(one.precision, one.recall, one.f1, one.n) for one in found.labels]
    assert np.allclose(told, np.stack([precision, recall, f1, count], 1))


@seeds
@settings(deadline=None, max_examples=25)
def test_scores_of_several_labels_are_the_references(seed: int, n: int, n_labels: int) -> None:
    random = np.random.default_rng(seed)
    p, truth = random.random((n, n_labels)).round(2), random.random((n, n_labels)) < 0.4
    thresholds = random.random(n_labels).round(2).tolist()
    found = label_scores(p, truth, NAMES[:n_labels], thresholds=thresholds)
    given_labels = p >= np.array(thresholds)
    for average in ("micro", "macro"):
        wanted = metrics.f1_score(truth, given_labels, average=average, zero_division=0)
        assert getattr(found, f"{average}_f1") == pytest.approx(wanted)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, given_labels))
    at = next(one for one in found.sweep if one.threshold == 0.3)
    assert at.macro_f1 == pytest.approx(metrics.f1_score(truth, p >= 0.3, average="macro", zero_division=0))
    assert at.recall == pytest.approx(metrics.recall_score(truth, p >= 0.3, average="micro", zero_division=0))


@seeds
@settings(deadline=None, max_examples=25)
def test_no_threshold_is_better_than_the_best(seed: int, n: int, n_labels: int) -> None:
    random = np.random.default_rng(seed)
    p, truth = random.random((n, n_labels)).round(1), random.random((n, n_labels)) < 0.3
    for label, threshold in enumerate(best_thresholds(p, truth)):
        assert 0.05 <= threshold <= 0.95
        there = truth[:, label]

        def f1(at: float) -> float:
            given_label = p[:, label] >= at  # noqa: B023
            return 2 * (given_label & there).sum() / max(1, given_label.sum() + there.sum())  # noqa: B023

        assert f1(threshold) >= max(map(f1, np.arange(0.06, 0.95, 0.01))) - 1e-9 or not there.any()


def test_a_label_that_nothing_has_is_given_at_a_half() -> None:
    assert best_thresholds(np.array([[0.2, 0.9], [0.4, 0.1]]), np.array([[False, True], [False, False]])) == [0.5, 0.5]


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(DataError, match="expected as many"):
        label_scores(np.zeros((0, 2)), np.zeros((0, 2), bool), "ab")

"""Which way is better, and what is written in per cent, as the name of a metric says."""

from dataclasses import replace

import pytest

import nas
from nas.tasks.metrics import inferred, metric_named


@pytest.mark.parametrize(
    ("name", "better"),
    [
        *((n, "min") for n in ("perplexity", "valError", "RMSE", "top-1 error", "cross-entropy", "word_error_rate")),
        *((n, "min") for n in ("negative_log_likelihood", "nll", "WER", "eval/loss", "MeanAbsoluteError")),
        *((n, "max") for n in ("accuracy", "score", "neg_mse", "log_likelihood", "f1", "AUROC", "accuracy_per_class")),
    ],
)
def test_less_is_better_where_the_name_says_so(name: str, better: str) -> None:
    assert inferred(name) == better


def test_the_direction_is_stated_or_inferred() -> None:
    def mse(*_: object) -> float:
        return 0.0

    task = nas.load_task("digits")
    assert task.metric.better == "max"
    assert replace(task, metric_name="perplexity").metric.better == "min"
    assert replace(task, metric_name="perplexity", better="max").metric.better == "max"
    assert replace(task, metric=mse).metric.better == "min"
    with pytest.raises(nas.UserError, match="better must be 'max' or 'min', got 'largest'"):
        replace(task, better="largest")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.9861, "accuracy", "98.61%"),
        (0.5, "top-1 error", "0.5"),
        (0.5, "top1 error", "50.00%"),
        (0.31, "rmse", "0.31"),
        (0.99, "perplexity", "0.99"),
        (23.456, "perplexity", "23.46"),
        (98.6, "accuracy", "98.6"),
        (float("nan"), "accuracy", "nan"),
    ],
)
def test_shares_are_written_in_per_cent(value: float, name: str, text: str) -> None:
    assert metric_named(name).text(value) == text

import numpy as np
import pytest

from jobs.domains import classes
from jobs.domains.details import Matrix, Table

LABELS = np.asarray([0, 0, 1, 1, 2, 2])
LOGITS = np.asarray(
    [[3, 1, 0, 0], [0, 2, 1, 0], [0, 2, 0, 0], [0, 3, 0, 0], [9, 0, 1, 0], [0, 0, 4, 0.0]]
)


def test_figures_by_hand() -> None:
    outcomes = classes.outcomes_of(LOGITS, LABELS)
    assert outcomes["predicted"].tolist() == [0, 1, 1, 1, 0, 2]
    assert outcomes["nats"][0] == pytest.approx(-np.log(np.exp(3) / np.exp(LOGITS[0]).sum()))
    outcomes["rank"] = classes.rank_of(LOGITS, LABELS)
    assert outcomes["rank"].tolist() == [0, 2, 0, 0, 1, 0]
    metrics = classes.metrics_of(outcomes, 4)
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["recall"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert metrics["macro_f1"] == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
    assert metrics["top_5"] == 1
    assert metrics["loss"] == pytest.approx(outcomes["nats"].mean())
    with pytest.raises(ValueError, match="no record"):
        classes.metrics_of({name: values[:0] for name, values in outcomes.items()}, 4)


def test_what_a_report_shows() -> None:
    outcomes = classes.outcomes_of(LOGITS, LABELS)
    table, matrix = classes.details_of(outcomes, ["a", "b", "c", "d"])
    assert isinstance(table, Table)
    assert table.rows[1] == ("b", 2, 2 / 3, 1.0, 0.8)
    assert table.rows[3] == ("d", 0, 0.0, 0.0, 0.0)
    assert isinstance(matrix, Matrix)
    assert matrix.counts == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert classes.worst_of(outcomes, 5).tolist() == [4, 1]
    notes = classes.notes_of(outcomes, ["a", "b", "c", "d"])
    assert notes[4] == "c, predicted a 1.00"
    assert notes[5] == "c, predicted so 0.95"


def test_many_classes_show_the_most_frequent() -> None:
    labels = np.repeat(np.arange(60), np.arange(60))
    outcomes = {"label": labels, "predicted": labels}
    _, matrix = classes.details_of(outcomes, [str(i) for i in range(60)])
    assert isinstance(matrix, Matrix)
    assert matrix.labels == [str(i) for i in range(10, 60)]


def test_answers_are_sorted() -> None:
    found = classes.ranked(np.asarray([0.0, 2.0, 1.0]), ["a", "b", "c"], 2)
    assert [entry["label"] for entry in found] == ["b", "c"]
    every = classes.ranked(np.asarray([0.0, 2.0, 1.0]), ["a", "b", "c"], None)
    assert sum(entry["score"] for entry in every) == pytest.approx(1)

"""What recommendations are measured by, from ranks among all items, and what a report shows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.domains import Outcomes
from jobs.domains.details import Detail, Examples, Shown, Table
from jobs.domains.recommendation.catalogue import Catalogue

TOP = 10
RECENT = 5
"""Items of a history that a report shows."""
GROUPS = ("most popular tenth", "next four tenths", "rest", "never taken in training")
NUM_EXAMPLES = 6


def metrics_of(outcomes: Outcomes, num_items: int) -> dict[str, float]:
    """ndcg@10, hr@10, mrr, coverage of the catalogue by all lists of ten, loss in nats.

    The loss is over items that can be recommended. ValueError where there is no record.
    """
    ranks = outcomes["rank"]
    if not len(ranks):
        raise ValueError("there is nothing to score: no user has an item after another")
    metrics = {
        "ndcg@10": float(gains(ranks).mean()),
        "hr@10": float((ranks < TOP).mean()),
        "mrr": float((1 / (1 + ranks)).mean()),
    }
    if "top" in outcomes:
        shown = np.bincount(outcomes["top"].ravel(), minlength=num_items + 1)[1:]
        metrics["coverage"] = float((shown > 0).sum() / max(1, num_items))
    if "nats" in outcomes:
        nats = outcomes["nats"][np.isfinite(outcomes["nats"])]
        metrics["loss"] = float(nats.mean()) if len(nats) else 0.0
    return metrics


def gains(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Normalised discounted gain of one true item in a list of ten, [records]."""
    return np.where(ranks < TOP, 1 / np.log2(ranks + 2.0), 0.0)


def details_of(outcomes: Outcomes, catalogue: Catalogue) -> list[Detail]:
    """How popular and how old users fare, and users with what they were recommended."""
    ranks, targets = outcomes["rank"], outcomes["target"]
    trained = catalogue.items.num_trained
    borders = [trained * 0.1, trained * 0.5, trained]
    groups = np.searchsorted(borders, targets)
    rows = [_line(name, ranks[groups == i]) for i, name in enumerate(GROUPS)]
    lengths = np.searchsorted((5, 20, 100), outcomes["length"], side="right")
    names = ("under 5 items", "5 to 19", "20 to 99", "100 and more")
    columns = ["records", "hr@10", "ndcg@10"]
    tables: list[Detail] = [
        Table("By the popularity of the item that was taken", ["items", *columns], rows),
        Table(
            "By the length of the history",
            ["history", *columns],
            [_line(name, ranks[lengths == i]) for i, name in enumerate(names)],
        ),
    ]
    hits = np.flatnonzero(ranks < TOP)[:NUM_EXAMPLES]
    typical = np.argsort(np.abs(ranks - np.median(ranks)), kind="stable")[:NUM_EXAMPLES]
    shown = [("Users whose next item was among the ten", hits), ("Typical users", typical)]
    return tables + [Examples(t, show(outcomes, own, catalogue)) for t, own in shown if len(own)]


def show(outcomes: Outcomes, places: NDArray[np.int64], catalogue: Catalogue) -> list[Shown]:
    """Histories, recommendations, and what was taken next, as text."""
    shown = []
    for place in places.tolist():
        recent = [catalogue.title(i) for i in outcomes["recent"][place].tolist() if i]
        best = [catalogue.title(i) for i in outcomes["top"][place].tolist() if i]
        rank, target = int(outcomes["rank"][place]), int(outcomes["target"][place])
        can = 0 < target <= len(catalogue.items) and rank < len(catalogue.items)
        note = f"took {catalogue.title(target)}, "
        note += f"which was ranked {rank + 1:,}" if can else "which cannot be recommended"
        before = f"{int(outcomes['length'][place]):,} items, the last: " + "; ".join(recent)
        shown.append(Shown(f"{before}\nrecommended: " + "; ".join(best), note=note))
    return shown


def worst_of(outcomes: Outcomes, count: int) -> NDArray[np.int64]:
    """The records whose true item was ranked lowest, those that cannot be recommended last."""
    order: NDArray[np.int64] = np.lexsort((-outcomes["rank"], np.isnan(outcomes["nats"])))
    return order[:count]


def _line(name: str, ranks: NDArray[np.int64]) -> tuple[str, int, float, float]:
    num = max(1, len(ranks))
    return name, len(ranks), float((ranks < TOP).sum() / num), float(gains(ranks).sum() / num)

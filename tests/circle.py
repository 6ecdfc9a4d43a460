"""Events of users who all walk one circle of items, which a network can learn in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cluster.local_storage import LocalStorage
from cluster.spec import parse_model
from jobs.prepare import prepare
from jobs.prepared import PreparedData

NUM_USERS, NUM_ITEMS, CONTEXT = 30, 20, 6
SMALL = {"width": 16, "context": CONTEXT, "dropout": 0.0}
SASREC = {"type": "sasrec", "layers": 1, **SMALL}
TOWERS = {"type": "two-tower", **SMALL}
TITLES = ["item,title,genres", *(f"{i},Film {i % 7} of {i},g{i % 3}|h" for i in range(25))]


def write_events(folder: Path) -> None:
    """Users who take item after item in one circle, ten each; item 99 is taken once, last."""
    lines = ["userId,itemId,timestamp"]
    for user in range(NUM_USERS):
        taken = [(user * 3 + step) % NUM_ITEMS for step in range(10)]
        taken[-1] = 99 if user == 4 else taken[-1]
        lines += [f"{user},{item},{1000 + user + 10 * n}" for n, item in enumerate(taken)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    (folder / "titles.csv").write_text("\n".join(TITLES) + "\n")


def model_of(folder: Path, network: dict[str, Any], **split: Any) -> Any:
    source = [str(folder / "events.csv"), str(folder / "titles.csv")]
    data = {"source": source, "split": split, "tokenizer": {"size": 300}}
    return parse_model(
        {"domain": "recommendation", "task": "next-item", "data": data, "network": network}
    )


def prepared(folder: Path, model: Any) -> PreparedData:
    storage: Any = LocalStorage(folder / "store")
    return PreparedData(storage, prepare(model, storage, lambda text: None).digest)

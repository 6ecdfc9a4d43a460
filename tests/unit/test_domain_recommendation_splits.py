from pathlib import Path
from typing import Any

import pytest

from jobs.domains import open_domain
from tests.circle import NUM_ITEMS, NUM_USERS, SASREC, model_of, prepared, write_events


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("events")
    write_events(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(place / "cache"))
        yield place


def test_no_event_is_learned_that_was_kept_back(folder: Path) -> None:
    data = prepared(folder, model_of(folder, SASREC))
    splits = {name: data.rows(name) for name in ("train", "validation", "test")}
    rows = {name: r.slice(0, len(r)) for name, r in splits.items() if r is not None}
    catalogue = open_domain(model_of(folder, SASREC), data.processor()).catalogue  # type: ignore[attr-defined]
    for user in range(NUM_USERS):
        number = catalogue.users.numbers[str(user)]
        taken = [catalogue.items.numbers[str((user * 3 + step) % NUM_ITEMS)] for step in range(10)]
        taken[-1] = catalogue.items.numbers["99"] if user == 4 else taken[-1]
        own = {name: r["user"] == number for name, r in rows.items()}
        learned = [
            items[:length].tolist()
            for items, length in zip(
                rows["train"]["items"][own["train"]],
                rows["train"]["items_length"][own["train"]],
                strict=True,
            )
        ]
        assert sorted(map(tuple, learned)) == sorted(map(tuple, (taken[:2], taken[1:8])))
        for name, before in (("validation", 8), ("test", 9)):
            assert rows[name]["items"][own[name]].tolist() == [taken[:before]]
            assert rows[name]["target"][own[name]].tolist() == [taken[before]]
    assert catalogue.items.num_trained == NUM_ITEMS
    assert catalogue.items.numbers["99"] > NUM_ITEMS
    assert catalogue.counts[:NUM_ITEMS].sum() == NUM_USERS * 8
    assert data.manifest["trained_items"] == NUM_ITEMS


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ({"last": 2}, (180, 60, 60)),
        ({"test": 0.0}, (270, 30, 0)),
        ({"time": "timestamp", "validation": 0.2, "test": 0.2}, None),
        ({"by": "userId", "validation": 0.2, "test": 0.2}, (180, 60, 60)),
    ],
)
def test_splits(folder: Path, split: dict[str, Any], sizes: Any) -> None:
    data = prepared(folder, model_of(folder, SASREC, **split))
    splits = data.manifest["splits"]
    events = tuple(splits[name]["events"] for name in ("train", "validation", "test"))
    assert sum(events) == NUM_USERS * 10
    if sizes:
        assert events == sizes
    rows: Any = data.rows("validation")
    found = rows.slice(0, len(rows))
    if "by" in split:
        trained: Any = data.rows("train")
        users = set(trained.slice(0, len(trained))["user"].tolist())
        assert not users & set(found["user"].tolist())
        assert len(found["user"]) == 6  # the last event of each user who is held back
    if "time" in split:
        assert events[1] == pytest.approx(60, abs=10)
        assert events[2] == pytest.approx(60, abs=10)

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cluster.local_storage import LocalStorage
from cluster.spec import parse_model
from jobs.domains import load, open_domain
from jobs.domains.files import DataError
from jobs.domains.recommendation.biases import fit_biases
from jobs.prepare import prepare
from jobs.prepared import PreparedData

torch.set_num_threads(1)
NETWORK = {"type": "matrix-factorisation", "width": 4, "dropout": 0.0}
SPLIT = {"last": 2}


def ratings() -> list[tuple[str, str, float, int]]:
    """40 users with a bias each rate 25 of 30 items, which have one too, 1 to 5."""
    random = np.random.default_rng(0)
    tastes, worth = random.normal(0, 0.7, 40), random.normal(0, 0.7, 30)
    return [
        (f"u{user}", f"i{item}", float(np.clip(round(3 + tastes[user] + worth[item]), 1, 5)), n)
        for user in range(40)
        for n, item in enumerate(random.permutation(30)[:25])
    ]


ROWS = ratings()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    return tmp_path


def write(path: Path, rows: list[tuple[Any, ...]], head: str, mark: str) -> str:
    lines = ([head] if head else []) + [mark.join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def prepared(folder: Path, source: Any, **data: Any) -> tuple[Any, PreparedData, list[str]]:
    settings = {"source": source, "split": SPLIT, **data}
    model = parse_model(
        {"domain": "recommendation", "task": "rating", "data": settings, "network": NETWORK}
    )
    storage: Any = LocalStorage(folder / "store")
    told: list[str] = []
    return model, PreparedData(storage, prepare(model, storage, told.append).digest), told


@pytest.mark.parametrize(
    ("name", "head", "mark"),
    [
        ("ratings.csv", "userId,movieId,rating,timestamp", ","),
        ("ratings.dat", "", "::"),
        ("u.data", "", "\t"),
        ("own.tsv", "user_id\titem_id\tstars\ttime", "\t"),
    ],
)
def test_layouts_give_the_same_rows(folder: Path, name: str, head: str, mark: str) -> None:
    given = folder / "given"
    given.mkdir()
    file = write(given / name, ROWS, head, mark)
    write(given / "tags.csv", [("u1", "i1", "funny", 3)], "userId,movieId,tag,timestamp", ",")
    source = str(given) if name == "ratings.csv" else file
    _, data, _ = prepared(folder, source)
    splits = data.manifest["splits"]
    assert [splits[n]["rows"] for n in ("train", "validation", "test")] == [840, 80, 80]
    rows: Any = data.rows("test")
    total = sum(rating for user, _, rating, n in ROWS if n >= 23)
    assert rows.slice(0, 80)["rating"].sum() == total


def test_it_learns_and_answers(folder: Path) -> None:
    model, data, _ = prepared(folder, write(folder / "r.csv", ROWS, "user,item,rating,time", ","))
    domain: Any = open_domain(model, data.processor())
    torch.manual_seed(0)
    network = domain.network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.02, weight_decay=0.1)
    train, test = (data.rows(name) for name in ("train", "test"))
    assert train is not None
    assert test is not None
    for _ in range(150):
        optimizer.zero_grad()
        domain.loss(network, domain.collate(train.slice(0, 840))).backward()
        optimizer.step()
    network.eval()
    rows = test.slice(0, 80)
    batch = domain.collate(rows)
    with torch.no_grad():
        outcomes = domain.outcomes(network, batch)
    metrics = domain.metrics(outcomes)
    errors = outcomes["rating"] - outcomes["predicted"]
    assert metrics["rmse"] == pytest.approx(np.sqrt((errors**2).mean()))
    assert metrics["mae"] == pytest.approx(np.abs(errors).mean())
    found = domain.baseline([train.slice(0, 840)], [rows])
    assert found["name"] == "biases alone"
    assert metrics["rmse"] < 1.1 * found["rmse"] < 0.6
    worst = domain.worst(outcomes, 1)
    assert np.abs(errors)[worst[0]] == np.abs(errors).max()
    shown = domain.show({}, {name: values[worst] for name, values in outcomes.items()})
    assert shown[0].text.startswith("user u")
    assert sum(row[1] for row in domain.details(outcomes)[0].rows) == 80
    domain.save(network, network.state_dict(), folder / "bundle")
    loaded: Any = load("recommendation", "rating", folder / "bundle")
    names = domain.catalogue
    (read,) = domain.read([str(folder / "r.csv")], 2000)
    assert len(read["rating"]) == 1000
    own = domain.collate({name: values[:80] for name, values in read.items()})
    requests = [
        {"inputs": {"user": names.users.own(u), "item": names.items.own(i)}}
        for u, i in zip(own["users"].tolist(), own["items"].tolist(), strict=True)
    ]
    served = [loaded.row(request) for request in requests]
    for name in ("users", "items", "recent", "recent_ratings"):
        parts = torch.cat([loaded.collate(row)[name] for row in served])
        assert torch.equal(parts.nan_to_num(-1), own[name].nan_to_num(-1)), name
    with torch.no_grad():
        expected = domain.outcomes(network, own)["predicted"]
    answers = loaded.answers(served, requests)
    assert [a["score"] for a in answers] == pytest.approx(expected.tolist(), abs=1e-5)
    with pytest.raises(ValueError, match=r"unknown user 'u99'; did you mean 'u9'"):
        loaded.answer({"inputs": {"user": "u99", "item": "i1"}})
    with pytest.raises(ValueError, match='must hold "item"'):
        loaded.answer({"inputs": {"user": "u1"}})


def test_no_kept_back_rating_is_known(folder: Path) -> None:
    file = write(folder / "r.csv", ROWS, "user,item,rating,time", ",")
    model, data, _ = prepared(folder, file)
    domain: Any = open_domain(model, data.processor())
    names, recent = domain.catalogue, model.network.recent
    for split in ("train", "validation", "test"):
        rows: Any = data.rows(split)
        rows = rows.slice(0, len(rows))
        for i in range(0, len(rows["user"]), 37):
            user = names.users.own(int(rows["user"][i]))
            taken = [(item, rating) for own, item, rating, _ in ROWS if own == user]
            place = [item for item, _ in taken].index(names.items.own(int(rows["item"][i])))
            before = taken[: min(place, 21)][::-1][:recent]
            many = int(rows["recent_length"][i])
            items = [names.items.own(n) for n in rows["recent"][i, :many].tolist()]
            given = rows["recent_ratings"][i, :many].tolist()
            assert list(zip(items, given, strict=True)) == before


def test_bad_events_are_counted_by_cause(folder: Path) -> None:
    many = [(f"u{n % 50}", f"i{n // 50}", 1 + n % 5, 1_700_000_000 + n) for n in range(1500)]
    odd: list[tuple[Any, ...]] = [
        ("", "i1", 3, 1),
        ("u1", "", 3, 1),
        ("u1", "i999", "good", 1),
        ("u1", "i998", "nan", 1),
        ("u1", "i997", 3, "yesterday"),
        ("u1", "i996", 3, ""),
        ("u1", "i995", 55, 5),
        ("u1", "i0", 5, 1_700_000_900),  # contradicts the first line's rating of 2
        ("u2", "i0", 3, 1_700_000_002),  # repeats one exactly
        ("u3", "i990", 3, 1_700_000_000_123),  # milliseconds
        ("single", "i0", 3, 1_700_000_000),
    ]
    file = write(folder / "r.csv", many + odd, "user,item,rating,time", ",")
    _, data, told = prepared(folder, file)
    manifest = data.manifest
    assert manifest["dropped"] == {
        "no item": 1,
        "no number as rating": 2,
        "no time": 2,
        "no user": 1,
        "rating outside the scale of 1 to 5": 1,
    }
    assert (manifest["duplicates"], manifest["contradictions"]) == (2, 1)
    assert (manifest["milliseconds"], manifest["users_of_one_event"]) == (1, 1)
    assert any("left out 7 of" in line for line in told)
    with pytest.raises(DataError, match=r"7 of 1,5\d\d records cannot be used"):
        prepared(folder, file, max_bad=0.001)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b,c", "1,2,3"], "names the item; it has a, b, c"),
        (["user,item", "1,2"], "no column of ratings"),
        (["user,item,rating"], "holds no events"),
        (["user,item,rating", "1,2,3"], "the validation part holds none"),
    ],
)
def test_data_that_cannot_be_used(folder: Path, lines: list[str], message: str) -> None:
    (folder / "a.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=message):
        prepared(folder, str(folder / "a.csv"))


def test_ids_of_several_files_are_compared_as_text(folder: Path) -> None:
    half = [(n % 10, f"x{n // 10}", 3, n) for n in range(100)]
    other = [(n % 10, n // 10, 4, n) for n in range(100)]
    head = "user,item,rating,time"
    files = [write(folder / f"{n}.csv", rows, head, ",") for n, rows in enumerate((half, other))]
    _, data, told = prepared(folder, files)
    assert (data.manifest["users"], data.manifest["items"]) == (10, 20)
    assert any("numbers in one file and texts in another" in line for line in told)


def test_biases_solve_their_equations() -> None:
    random = np.random.default_rng(0)
    users, items = random.integers(1, 9, 200), random.integers(1, 7, 200)
    values = random.normal(3, 1, 200)
    found = fit_biases(users, items, values, 8, 6)
    left = values - found.predict(users, items)
    for user in range(1, 9):
        assert left[users == user].sum() == pytest.approx(5 * found.users[user], abs=1e-3)

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cluster.local_storage import LocalStorage
from jobs.domains import load, open_domain
from jobs.prepare import prepare
from jobs.prepared import PreparedData
from jobs.scoring import joined
from tests.circle import NUM_ITEMS, NUM_USERS, SASREC, TOWERS, model_of, prepared, write_events

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("events")
    write_events(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(place / "cache"))
        yield place


@pytest.fixture(scope="module", params=[SASREC, TOWERS], ids=["sasrec", "two-tower"])
def made(request: pytest.FixtureRequest, folder: Path) -> Any:
    """A trained domain with its data and its bundle."""
    model = model_of(folder, request.param)
    data = prepared(folder, model)
    torch.manual_seed(0)
    domain: Any = open_domain(model, data.processor())
    network = domain.network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    rows: Any = data.rows("train")
    for step in range(60):
        optimizer.zero_grad()
        loss = domain.loss(network, domain.collate(rows.slice(0, len(rows)), step))
        loss.backward()
        optimizer.step()
    bundle = folder / f"bundle-{request.param['type']}"
    domain.save(network, network.state_dict(), bundle)
    loaded: Any = load("recommendation", "next-item", bundle)
    network.eval()
    return SimpleNamespace(
        domain=domain, network=network, data=data, loaded=loaded, bundle=bundle, loss=loss.item()
    )


def test_it_learns_the_circle(made: Any) -> None:
    rows = made.data.rows("test")
    with torch.no_grad():
        parts = [
            made.domain.outcomes(made.network, made.domain.collate(rows.slice(i, i + 7)))
            for i in range(0, len(rows), 7)
        ]
    outcomes = joined(parts)
    metrics = made.domain.metrics(outcomes)
    assert metrics["hr@10"] > 0.8
    whole = made.domain.collate(rows.slice(0, len(rows)))
    with torch.no_grad():
        assert np.array_equal(made.domain.outcomes(made.network, whole)["rank"], outcomes["rank"])
    details = made.domain.details(outcomes)
    assert sum(row[1] for row in details[0].rows) == NUM_USERS
    worst = made.domain.worst(outcomes, 3)
    recommendable = outcomes["rank"][np.isfinite(outcomes["nats"])]
    assert outcomes["rank"][worst[0]] == recommendable.max()
    shown = made.domain.show({}, {name: v[worst] for name, v in outcomes.items()})
    assert "recommended: " in shown[0].text
    assert made.domain.count(made.domain.collate(made.data.rows("train").slice(0, 4))) > 0


def test_metrics_are_those_of_sorting_every_item(made: Any) -> None:
    rows = made.data.rows("test").slice(0, NUM_USERS)
    batch = made.domain.collate(rows)
    with torch.no_grad():
        outcomes = made.domain.outcomes(made.network, batch)
        states = made.network.states(batch["items"])
        vectors, offsets = made.network.vectors()
    ndcg, hits, tops = [], [], set()
    for i in range(NUM_USERS):
        scores = (vectors @ states[i, batch["lengths"][i] - 1] + offsets).tolist()
        seen = set(rows["items"][i].tolist())
        order = sorted(
            (n for n in range(1, len(scores) + 1) if n not in seen), key=lambda n: -scores[n - 1]
        )
        tops |= set(order[:10])
        target = int(rows["target"][i])
        place = order.index(target) if target in order else len(scores)
        assert outcomes["rank"][i] == place
        assert outcomes["top"][i].tolist()[: len(order)] == order[:10]
        ndcg.append(1 / np.log2(place + 2) if place < 10 else 0)
        hits.append(place < 10)
    metrics = made.domain.metrics(outcomes)
    assert metrics["ndcg@10"] == pytest.approx(np.mean(ndcg))
    assert metrics["hr@10"] == pytest.approx(np.mean(hits))
    assert metrics["coverage"] == pytest.approx(len(tops) / made.domain.shape.num_items)


def test_items_that_nobody_took_in_training(made: Any) -> None:
    rows = made.data.rows("test")
    unseen = made.domain.catalogue.items.numbers["99"]
    taken = rows.slice(0, len(rows))
    place = int(np.flatnonzero(taken["target"] == unseen)[0])
    with torch.no_grad():
        found = made.domain.outcomes(
            made.network, made.domain.collate(rows.slice(place, place + 1))
        )
    knows = made.domain.shape.type == "two-tower"
    assert (found["rank"][0] < made.domain.shape.num_items) == knows
    request = {"inputs": {"history": [1, 24]}}  # 24 is a title that has no event
    if not knows:
        with pytest.raises(ValueError, match="24 was never taken in training"):
            made.loaded.row(request)
    else:
        assert len(made.loaded.answer(request)) == 10


def test_serving_sees_what_training_sees(made: Any) -> None:
    rows = made.data.rows("validation").slice(0, 5)
    items = made.domain.catalogue.items
    for i in range(5):
        history = [items.own(n) for n in rows["items"][i, : rows["items_length"][i]].tolist()]
        own = made.domain.collate({name: values[i : i + 1] for name, values in rows.items()})
        served = made.loaded.collate(made.loaded.row({"inputs": {"history": history}}))
        for name in ("items", "lengths", "seen"):
            assert torch.equal(own[name], served[name]), name


def test_answers(made: Any) -> None:
    known = made.loaded.answer({"inputs": {"user": 7}, "parameters": {"top_k": 3}})
    history = [(7 * 3 + step) % NUM_ITEMS for step in range(10)]
    same = {"inputs": {"history": history}, "parameters": {"top_k": 3}}
    assert [a["item"] for a in made.loaded.answer(same)] == [a["item"] for a in known]
    assert len(known) == 3
    assert not {a["item"] for a in known} & set(history)
    scores = [a["score"] for a in known]
    assert scores == sorted(scores, reverse=True)
    requests = [same, {"inputs": {"history": [0, "1"]}}, {"inputs": {"user": "3"}}]
    together = made.loaded.answers([made.loaded.row(r) for r in requests], requests)
    for request, answer in zip(requests, together, strict=True):
        alone = made.loaded.answer(request)
        assert [a["item"] for a in alone] == [a["item"] for a in answer]
        assert [a["score"] for a in alone] == pytest.approx([a["score"] for a in answer], abs=1e-5)
    everything = {"inputs": {"history": [0]}, "parameters": {"top_k": 1000}}
    assert len(made.loaded.answer(everything)) == made.domain.shape.num_items - 1
    assert isinstance(known[0]["item"], int)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"inputs": {"user": 77}}, r"unknown user 77; did you mean 7\?"),
        ({"inputs": {"history": ["Film"]}}, r"unknown item 'Film'; there are"),
        ({"inputs": {"history": []}}, "must be a list of items"),
        ({"inputs": {"user": 1, "history": [1]}}, "either"),
        ({"inputs": {"users": 1}}, 'unknown key "users"'),
        ({"inputs": 7}, "must be a mapping"),
        ({"inputs": {"user": 1}, "parameters": {"top_k": 0}}, "top_k must be 1 to"),
        ({"inputs": {"user": 1}, "parameters": {"k": 3}}, 'unknown parameter "k"'),
        ({"inputs": {"user": 1.5}}, "a text or a whole number"),
    ],
)
def test_wrong_requests(made: Any, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made.loaded.row(request_)


def test_later_items_do_not_change_earlier_places(made: Any) -> None:
    items = torch.tensor([[1, 2, 3, 4, 5, 6]])
    other = torch.tensor([[1, 2, 3, 4, 5, 9]])
    with torch.no_grad():
        one, two = made.network.states(items), made.network.states(other)
        padded = made.network.states(torch.tensor([[1, 2, 3, 4, 0, 0]]))
    assert torch.allclose(one[:, :5], two[:, :5], atol=1e-6)
    assert not torch.allclose(one[:, 5], two[:, 5], atol=1e-3)
    assert torch.allclose(one[:, :4], padded[:, :4], atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_saved_folder_is_the_network(made: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.clone().to(dtype) for name, tensor in made.network.state_dict().items()}
    made.domain.save(made.network, state, tmp_path)
    again = made.domain.restore(tmp_path)
    assert {name: t.dtype for name, t in again.state_dict().items()} == dict.fromkeys(state, dtype)
    assert all(torch.equal(state[name], t) for name, t in again.state_dict().items())
    loaded = load("recommendation", "next-item", tmp_path)
    answers = loaded.answer({"inputs": {"user": 7}})
    assert len(answers) == 10
    loaded.settle()
    assert isinstance(loaded._states, torch.jit.ScriptModule)
    assert loaded.answer({"inputs": {"user": 7}}) == answers


def test_any_events_are_scored_after_the_stored_history(made: Any, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text("userId,itemId,timestamp\n7,11,1\n7,12,2\n7,1,3\nnew,3,1\nnew,4,2\n")
    (rows,) = made.domain.read([str(file)], 8)
    # 7 has taken 1 and 11 was the next in the circle; the first event of a new user has no history
    assert rows["items_length"].tolist() == [10, 11, 1]
    numbers = made.domain.catalogue.items.numbers
    assert rows["target"].tolist() == [numbers["11"], numbers["12"], numbers["4"]]
    with torch.no_grad():
        outcomes = made.domain.outcomes(made.network, made.domain.collate(rows))
    assert outcomes["length"].tolist() == [10, 11, 1]


def test_baselines_are_measured_on_the_same_records(made: Any) -> None:
    train, test = made.data.rows("train"), made.data.rows("test")
    found = made.domain.baseline([train.slice(0, len(train))], [test.slice(0, len(test))])
    assert found["name"] == "item neighbours"
    assert 0 < found["ndcg@10"] <= 1
    assert "popularity ndcg@10" in found


def test_other_data_are_read_by_the_numbers_of_a_saved_model(made: Any, folder: Path) -> None:
    """As the gate does, to judge an incumbent on the newer data of its successor."""
    newer = folder / f"newer-{made.domain.shape.type}"
    newer.mkdir()
    write_events(newer)
    with (newer / "events.csv").open("a") as file:
        file.write("7,10,9000\n7,new,9001\nlate,1,1\nlate,2,2\nlate,3,3\nlate,4,4\n")
    model = model_of(newer, {"pretrained": "films@1"})
    storage: Any = LocalStorage(folder / "store")
    data = PreparedData(storage, prepare(model, storage, print, made.bundle).digest)
    rows: Any = data.rows("test")
    rows = rows.slice(0, len(rows))
    numbers = made.domain.catalogue.items.numbers
    own = rows["user"] == made.domain.catalogue.users.numbers["7"]
    assert rows["target"][own].tolist() == [len(numbers) + 1]
    last = int(rows["items_length"][own][0]) - 1
    assert rows["items"][own][0, last] == numbers["10"]
    assert rows["target"][rows["user"] == 0].tolist() == [numbers["4"]]
    with torch.no_grad():
        outcomes = made.domain.outcomes(made.network, made.domain.collate(rows))
    assert outcomes["rank"][own].tolist() == [made.domain.shape.num_items]
    assert (data.processor() / "items.arrow").read_bytes() == (
        made.bundle / "items.arrow"
    ).read_bytes()

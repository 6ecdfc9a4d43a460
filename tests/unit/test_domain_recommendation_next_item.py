from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cluster.local_storage import LocalStorage
from cluster.spec import parse_model
from jobs.domains import load, open_domain
from jobs.domains.recommendation import networks
from jobs.domains.recommendation.entropy import chunked_entropy
from jobs.domains.recommendation.networks import leave_out, rank
from jobs.domains.recommendation.ranking import metrics_of
from jobs.prepare import prepare
from jobs.prepared import PreparedData
from jobs.scoring import joined

torch.set_num_threads(1)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("events")
    write_events(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(place / "cache"))
        yield place


def prepared(folder: Path, model: Any) -> PreparedData:
    storage: Any = LocalStorage(folder / "store")
    return PreparedData(storage, prepare(model, storage, lambda text: None).digest)


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
    answers = load("recommendation", "next-item", tmp_path).answer({"inputs": {"user": 7}})
    assert len(answers) == 10


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


def test_entropy_in_chunks_is_that_of_all_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.domains.recommendation.entropy.MOST_LOGITS", 50)
    torch.manual_seed(0)
    parts = [torch.randn(23, 8), torch.randn(20, 8), torch.randn(20)]
    chunked, plain = ([p.clone().requires_grad_() for p in parts] for _ in range(2))
    targets = torch.randint(20, (23,))
    loss = chunked_entropy(*chunked, targets)
    expected = torch.nn.functional.cross_entropy(plain[0] @ plain[1].T + plain[2], targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    (loss * 3).backward()
    (expected * 3).backward()
    for one, other in zip(chunked, plain, strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)  # type: ignore[arg-type]
    empty = chunked_entropy(chunked[0][:0], *chunked[1:], targets[:0])
    empty.backward()
    assert empty.item() == 0


def test_samples_teach_what_all_items_would() -> None:
    """Of states that say nothing, the network learns how frequent each item is."""
    torch.manual_seed(0)
    shares = torch.arange(1.0, 21) ** 2 / (torch.arange(1.0, 21) ** 2).sum()
    shape = networks.Shape("sasrec", 20, 4, 4, 0.0, num_trained=20, samples=5)
    network = networks.SASRec(shape, (shares * 1e6).long().numpy())
    optimizer = torch.optim.Adam(network.offsets.parameters(), lr=0.1)
    for _ in range(300):
        targets = torch.multinomial(shares, 64, replacement=True) + 1
        optimizer.zero_grad()
        network._entropy(torch.zeros(64, 4), targets).backward()
        optimizer.step()
    learned = network.offsets.weight[1:, 0].softmax(0).detach()
    assert (learned - shares).abs().max() < 0.04


def test_seen_items_are_never_ranked() -> None:
    scores = torch.tensor([[5.0, 4.0, 3.0, 2.0]])
    out = leave_out(scores, torch.tensor([[1, 0, 9, 3]]))
    assert out.tolist() == [[-np.inf, 4.0, -np.inf, 2.0]]
    states, vectors = torch.ones(1, 1), scores.T.clone()
    found = rank(states, vectors, torch.zeros(4), torch.tensor([4]), torch.tensor([[1, 3]]))
    assert found.rank.tolist() == [1]
    assert found.top[0, :4].tolist() == [2, 4, 0, 0]
    missed = rank(states, vectors, torch.zeros(4), torch.tensor([7]), torch.tensor([[1, 3]]))
    assert missed.rank.tolist() == [4]
    assert torch.isnan(missed.nats).all()


def test_a_large_catalogue_is_sampled() -> None:
    network = SimpleNamespace(type="sasrec", width=8, context=4, dropout=0.0, layers=1, heads=1)
    network.samples = None
    assert networks.shape_of(network, 10**6, 10**6, 0).samples == networks.NUM_SAMPLES
    assert networks.shape_of(network, 1000, 1000, 0).samples is None


def test_metrics_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to score"):
        metrics_of({"rank": np.zeros(0, np.int64)}, 5)


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

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, pipeline

from cluster.spec import ModelSpec, load
from cluster.storage import open_storage
from jobs.domains import load as load_domain
from jobs.domains import open_domain
from jobs.domains.files import DataError
from jobs.prepare import prepare
from jobs.rows import open_rows

torch.set_num_threads(1)
BERT = {"type": "bert", "layers": 1, "heads": 2, "width": 32, "context": 16, "dropout": 0.0}
LSTM = {"type": "lstm", "layers": 1, "width": 16, "context": 16, "dropout": 0.0}
WORDS = {"animals": "cat dog bird fish horse cow", "colours": "red blue green black white pink"}
CHINESE = {"好评": "很好满意干净舒服安静", "差评": "很差吵闹肮脏失望难吃"}


def sentences(words: dict[str, list[str]], joint: str, count: int = 40) -> list[tuple[str, str]]:
    random = np.random.default_rng(0)
    return [
        (joint.join(random.choice(own, 4 + i % 9)) + f"{joint}{i}", label)
        for label, own in words.items()
        for i in range(count)
    ]


ENGLISH_ROWS = sentences({label: text.split() for label, text in WORDS.items()}, " ")
CHINESE_ROWS = sentences({label: list(text) for label, text in CHINESE.items()}, "")


class Project:
    """A folder with a table and a YAML of one model."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec: Any = None

    def model(self, network: dict[str, Any], **data: Any) -> ModelSpec:
        settings = {"source": "a.csv", "tokenizer": {"type": "wordpiece", "size": 200}} | data
        if "pretrained" in network:
            settings.pop("tokenizer")
        model = {"domain": "text", "task": "classification", "network": network, "data": settings}
        document = {"name": "x", "cluster": {"storage": "./store"}, "models": {"m": model}}
        (self.folder / "cluster.yaml").write_text(json.dumps(document))
        self.spec = load(self.folder / "cluster.yaml")
        return self.spec.model("m")  # type: ignore[no-any-return]

    def write(self, name: str, rows: list[tuple[str, str]], encoding: str = "utf-8") -> None:
        lines = (f"{text},{label}\n" for text, label in [("text", "label"), *rows])
        (self.folder / name).write_text("".join(lines), encoding)

    def open(self, network: dict[str, Any], **data: Any) -> tuple[Any, Any]:
        """The domain over prepared data, and its training rows."""
        model = self.model(network, **data)
        storage = open_storage(self.spec.cluster.storage, "x")
        prepared = prepare(model, storage, lambda text: None)
        self.manifest = prepared.manifest
        processor = self.folder / "store" / "x" / prepared.path / "processor"
        rows = {s: open_rows(storage, prepared.digest, s) for s in ("train", "validation")}
        return open_domain(model, processor), rows


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("SLIPWAY_CACHE", str(tmp_path / "cache"))
    return Project(tmp_path)


def fit(domain: Any, rows: Any, steps: int = 60) -> Any:
    torch.manual_seed(0)
    network = domain.network().train()
    optimizer = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=5e-3)
    batch = domain.collate(rows.take(np.arange(len(rows))), 0)
    for _ in range(steps):
        optimizer.zero_grad()
        domain.loss(network, batch).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("network", [BERT, LSTM], ids=["bert", "lstm"])
@pytest.mark.parametrize("kind", ["english", "chinese"])
def test_from_a_file_to_answers(project: Project, network: dict[str, Any], kind: str) -> None:
    table = ENGLISH_ROWS if kind == "english" else CHINESE_ROWS
    project.write("a.csv", table, "utf-8" if kind == "english" else "gb18030")
    domain, rows = project.open(network)
    assert domain.labels == sorted({label for _, label in table})
    trained = fit(domain, rows["train"], 60 if network is BERT else 20)
    taken = rows["validation"].slice(0, 100)
    with torch.no_grad():
        outcomes = domain.outcomes(trained, domain.collate(taken))
    metrics = domain.metrics(outcomes)
    assert set(metrics) == {"macro_f1", "accuracy", "recall", "loss"}
    assert metrics["accuracy"] >= 0.8
    domain.save(trained, trained.state_dict(), project.folder / "bundle")
    again = domain.restore(project.folder / "bundle").eval()
    with torch.no_grad():
        assert domain.loss(again, domain.collate(taken)) == domain.loss(
            trained, domain.collate(taken)
        )
    loaded: Any = load_domain("text", "classification", project.folder / "bundle")
    text, label = table[0]
    (answer,) = loaded.answer({"inputs": text})
    assert answer[0]["label"] == label
    assert sum(entry["score"] for entry in answer) == pytest.approx(1)
    first, second = loaded.answer({"inputs": [text, table[-1][0]], "parameters": {"top_k": 1}})
    assert [first[0]["label"], second[0]["label"]] == [label, table[-1][1]]
    assert len(first) == 1
    assert not list((project.folder / "bundle").glob("*.bin"))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "character"])
def test_training_and_serving_see_the_same(project: Project, kind: str) -> None:
    table = ENGLISH_ROWS[:40] + CHINESE_ROWS[40:] + [("Ünïcode [SEP] " + "long " * 30, "animals")]
    project.write("a.csv", table)
    project.write("v.csv", table)
    tokenizer = {"type": kind, "size": 400}
    split = {"validation": str(project.folder / "v.csv"), "test": 0.0}
    other = [(text + " more", label) for text, label in table]
    project.write("a.csv", other)
    domain, rows = project.open(LSTM, tokenizer=tokenizer, split=split)
    network = domain.network().eval()
    domain.save(network, network.state_dict(), project.folder / "bundle")
    loaded: Any = load_domain("text", "classification", project.folder / "bundle")
    trained_way = domain.collate(rows["validation"].take(np.arange(len(table))))
    read = next(iter(domain.read([str(project.folder / "v.csv")], 100)))
    served = [domain.collate(loaded.row({"inputs": text})) for text, _ in table]
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(domain.collate(read)[name], trained_way[name])
        for i, one in enumerate(served):
            width = one[name].shape[1]
            assert torch.equal(one[name][0], trained_way[name][i, :width])
            assert not trained_way["attention_mask"][i, width:].any()


@pytest.mark.parametrize("network", [BERT, LSTM | {"layers": 2}], ids=["bert", "lstm"])
def test_answers_do_not_depend_on_padding(project: Project, network: dict[str, Any]) -> None:
    project.write("a.csv", ENGLISH_ROWS)
    domain, rows = project.open(network)
    torch.manual_seed(0)
    built = domain.network().eval()
    taken = rows["train"].slice(0, 20)
    whole = domain.collate(taken)
    del whole["labels"]
    with torch.no_grad():
        together = built(**whole).logits
        for i in range(20):
            length = int(taken["tokens_length"][i])
            alone = built(input_ids=whole["input_ids"][i : i + 1, :length]).logits
            assert (alone - together[i]).abs().max() <= 1e-5
    assert domain.count(whole) == taken["tokens_length"].sum()


def test_the_parts_of_a_network_learn_apart_and_answer_together(project: Project) -> None:
    project.write("a.csv", ENGLISH_ROWS)
    domain, rows = project.open(LSTM)
    network = domain.network().eval()
    batch = domain.collate(rows["train"].slice(0, 20))

    def gradient() -> torch.Tensor:
        network.zero_grad()
        domain.loss(network, batch).backward()
        return torch.clone(network.classifier.weight.grad)

    before = gradient()
    torch.nn.init.normal_(network.bag.weights.weight)  # whatever the bag has learned already
    assert torch.equal(gradient(), before)
    output = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    recurrent, bag = output.parts
    assert torch.equal(output.logits, 0.25 * recurrent + 0.75 * bag)
    with torch.no_grad():
        predicted = domain.outcomes(network, batch)["predicted"].tolist()
    assert predicted == output.logits.argmax(1).tolist() != output.parts[0].argmax(1).tolist()


def test_a_version_goes_on_with_its_head_or_a_fresh_one(project: Project) -> None:
    project.write("a.csv", ENGLISH_ROWS)
    folder = project.folder / "bundle"
    for network in (BERT, LSTM):
        domain, _ = project.open(network)
        trained = domain.network()
        domain.save(trained, trained.state_dict(), folder)
        again, rows = project.open({"pretrained": str(folder)})
        weight = again.network().classifier.weight
        assert torch.equal(weight, trained.classifier.weight)
        project.write("b.csv", [*ENGLISH_ROWS, *CHINESE_ROWS])
        wider, _ = project.open({"pretrained": str(folder), "freeze": "backbone"}, source="b.csv")
        built = wider.network()
        assert built.config.num_labels == 4
        assert built.classifier.weight.requires_grad
        assert (
            not built.base_model.layers[0][0].lstm.weight_hh_l0.requires_grad
            if (network is LSTM)
            else not built.bert.embeddings.word_embeddings.weight.requires_grad
        )
        assert (
            wider.vocabulary.encode("cat dog").tolist()
            == domain.vocabulary.encode("cat dog").tolist()
        )
        fit(again, rows["train"], 1)
        shutil.rmtree(folder)


def test_a_pickle_is_refused(project: Project) -> None:
    project.write("a.csv", ENGLISH_ROWS)
    folder = project.folder / "bundle"
    domain, _ = project.open(BERT)
    trained = domain.network()
    domain.save(trained, trained.state_dict(), folder)
    again, _ = project.open({"pretrained": str(folder)})
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle and is never loaded"):
        again.network()


def test_plain_transformers_give_the_same_answers(project: Project) -> None:
    project.write("a.csv", ENGLISH_ROWS)
    domain, rows = project.open(BERT)
    trained = fit(domain, rows["train"], 5)
    domain.save(trained, trained.state_dict(), project.folder / "bundle")
    loaded: Any = load_domain("text", "classification", project.folder / "bundle")
    plain = pipeline("text-classification", str(project.folder / "bundle"), device="cpu")
    for text in ("cat Dog red", "green " * 40):
        ours = loaded.answer({"inputs": text})[0]
        theirs = plain(text, top_k=None, truncation=True)
        assert [entry["label"] for entry in ours] == [entry["label"] for entry in theirs]
        assert ours[0]["score"] == pytest.approx(theirs[0]["score"], abs=1e-6)
    tokenizer = AutoTokenizer.from_pretrained(project.folder / "bundle")
    assert tokenizer("cat")["input_ids"] == domain.vocabulary.encode_framed("cat", 16).tolist()


def test_what_a_report_shows_and_compares_with(project: Project) -> None:
    project.write("a.csv", ENGLISH_ROWS)
    domain, rows = project.open(LSTM)
    train, held = (rows[s].slice(0, 1000) for s in ("train", "validation"))
    baseline = domain.baseline(iter([train]), iter([held]))
    assert baseline["name"] == "TF-IDF and logistic regression"
    assert (baseline["accuracy"], baseline["majority_accuracy"]) == (1, 0.5)
    with torch.no_grad():
        outcomes = domain.outcomes(domain.network().eval(), domain.collate(held))
    places = domain.worst(outcomes, 3)
    shown = domain.show(*({n: v[places] for n, v in each.items()} for each in (held, outcomes)))
    assert all(", predicted " in record.note and record.text for record in shown)
    assert len(domain.details(outcomes)) == 2
    assert domain.flops(domain.network()) > 6 * 16


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("text,label\n", "(?s).*"),
        ("text,label\n" + "".join(f"t {i},one\n" for i in range(40)), "one"),
        ("body,queue\n" + "a,b\n" * 40, r"has no column 'text'; it has body, queue"),
    ],
)
def test_data_that_cannot_be_learned_from(project: Project, table: str, message: str) -> None:
    (project.folder / "a.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        project.open(LSTM)
    assert not list((project.folder / "store").rglob("*.parquet"))


def test_wrong_requests_and_labels(project: Project) -> None:
    project.write("a.csv", ENGLISH_ROWS)
    domain, _ = project.open(LSTM)
    network = domain.network()
    domain.save(network, network.state_dict(), project.folder / "bundle")
    loaded: Any = load_domain("text", "classification", project.folder / "bundle")
    for request, message in (
        ({"inputs": 7}, "must be a text or a list"),
        ({"inputs": []}, "must be a text or a list"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, "top_k must be"),
        ({"inputs": "a", "parameters": {"beams": 1}}, 'unknown parameter "beams"'),
    ):
        with pytest.raises(ValueError, match=message):
            loaded.answer(request)
    assert loaded.answer({"inputs": ""})[0]
    project.write("v.csv", [("cat", "plants")])
    with pytest.raises(DataError, match=r"v\.csv:2: label 'plants' is none of animals, colours"):
        list(domain.read([str(project.folder / "v.csv")], 4))


def test_positions_and_other_formats(project: Project) -> None:
    lines = (f"{label}\t{text}\n" for text, label in ENGLISH_ROWS)
    (project.folder / "a.tsv").write_text("".join(lines))
    domain, rows = project.open(LSTM, source="a.tsv", columns={"label": 0, "text": 1})
    assert len(rows["train"]) + len(rows["validation"]) == pytest.approx(72, abs=2)
    numbers = {"animals": 10, "colours": 9}
    records = [{"body": text, "kind": numbers[label]} for text, label in ENGLISH_ROWS]
    (project.folder / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    domain, _ = project.open(LSTM, source="a.jsonl", columns={"label": "kind", "text": "body"})
    assert domain.labels == ["9", "10"]

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import pipeline

from cluster.spec import load
from cluster.storage import open_storage
from jobs.domains import load as load_domain
from jobs.domains import open_domain
from jobs.domains.text.masking import hide
from jobs.domains.text.vocabulary import train_wordpiece
from jobs.prepare import prepare
from jobs.rows import open_rows
from jobs.scoring import joined

torch.set_num_threads(1)
BERT = {"type": "bert", "layers": 1, "heads": 2, "width": 32, "context": 16, "dropout": 0.0}
TEXT = "the quick brown fox jumps over the lazy dog and 狐狸跳过了狗\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("project")


def opened(folder: Path, task: str, network: dict[str, Any], **data: Any) -> tuple[Any, Any, Any]:
    """The spec's domain over prepared data, its rows and the manifest."""
    model = {"domain": "text", "task": task, "network": network, "data": data}
    document = {"name": "x", "cluster": {"storage": "./store"}, "models": {"m": model}}
    (folder / "cluster.yaml").write_text(json.dumps(document))
    spec = load(folder / "cluster.yaml")
    storage = open_storage(spec.cluster.storage, "x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(folder / "cache"))
        prepared = prepare(spec.model("m"), storage, lambda text: None)
        rows = open_rows(storage, prepared.digest, "train")
    processor = folder / "store" / "x" / prepared.path / "processor"
    return open_domain(spec.model("m"), processor), rows, prepared.manifest


@pytest.fixture(scope="module")
def trained(project: Path) -> Any:
    """(domain, rows, network, folder of what was saved)."""
    (project / "a.txt").write_text(TEXT * 60)
    tokenizer = {"type": "wordpiece", "size": 100}
    domain, rows, _ = opened(project, "masked-lm", BERT, source="a.txt", tokenizer=tokenizer)
    torch.manual_seed(0)
    network = domain.network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for step in range(120):
        batch = domain.collate(rows.take(np.arange(32)), step)
        optimizer.zero_grad()
        domain.loss(network, batch).backward()
        optimizer.step()
    domain.save(network.eval(), network.state_dict(), project / "bundle")
    return domain, rows, network, project / "bundle"


def test_hiding_follows_the_seed(tmp_path: Path) -> None:
    vocabulary = train_wordpiece([TEXT * 9], 100, tmp_path)
    text = vocabulary.encode_framed(TEXT * 9, 64).astype(np.int64)
    tokens = np.tile(text, (400, 1))
    seen, hidden = hide(tokens, vocabulary, 5)
    assert np.array_equal(seen, hide(tokens, vocabulary, 5)[0])
    assert not np.array_equal(seen, hide(tokens, vocabulary, 6)[0])
    assert hidden[:, 1:-1].mean() == pytest.approx(0.15, abs=0.01)
    assert not hidden[:, [0, -1]].any()
    assert (seen[~hidden] == tokens[~hidden]).all()
    shares = [(seen == vocabulary.mask)[hidden].mean(), (seen == tokens)[hidden].mean()]
    assert shares == pytest.approx([0.8, 0.1], abs=0.03)
    assert not np.isin(seen[hidden & (seen != vocabulary.mask)], vocabulary.marks).any()
    tokens[::2] = np.roll(tokens[::2], 1, 1)
    whole = hide(tokens, vocabulary, None)
    alone = hide(tokens[7:8], vocabulary, None)
    assert np.array_equal(whole[0][7], alone[0][0])
    assert np.array_equal(whole[1][7], alone[1][0])
    short = np.asarray([[2, 40, 3], [2, 3, 3]])
    assert hide(short, vocabulary, 0)[1].tolist() == [[False, True, False], [False] * 3]


def test_rows_and_their_scores(trained: Any) -> None:
    domain, rows, network, _ = trained
    taken = rows.slice(0, 6)
    assert taken["tokens"].shape == (6, 15)
    batch = domain.collate(taken)
    assert (batch["input_ids"][:, 0] == domain.vocabulary.frame[0][0]).all()
    assert torch.equal(batch["labels"][:, 1:], torch.from_numpy(taken["tokens"].astype(np.int64)))
    with torch.no_grad():
        whole = domain.outcomes(network, batch)
        parts = [domain.outcomes(network, domain.collate(rows.slice(i, i + 1))) for i in range(6)]
        loss = domain.loss(network, batch).item()
        every = network(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    for name, values in joined(parts).items():
        assert values == pytest.approx(whole[name], abs=1e-4)
    metrics = domain.metrics(whole)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    plain = torch.nn.functional.cross_entropy(
        every[batch["hidden"]], batch["labels"][batch["hidden"]]
    )
    assert loss == pytest.approx(plain.item(), rel=1e-5)
    assert metrics["accuracy"] > 0.3
    baseline = domain.baseline(iter([taken]), iter([taken]))
    assert baseline["loss"] > metrics["loss"]
    assert 0 < baseline["accuracy"] < metrics["accuracy"]
    assert domain.count(batch) == 6 * 16


def test_gaps_are_filled(trained: Any) -> None:
    *_, folder = trained
    loaded: Any = load_domain("text", "masked-lm", folder)
    text = "the quick brown [MASK] jumps over"
    found = loaded.answer({"inputs": text})
    assert len(found) == 5
    assert found[0]["sequence"] == text.replace("[MASK]", found[0]["token_str"])
    plain = pipeline("fill-mask", str(folder), device="cpu")(text)
    assert [entry["token"] for entry in plain] == [entry["token"] for entry in found]
    assert plain[0]["score"] == pytest.approx(found[0]["score"], abs=1e-5)
    targets = loaded.answer({"inputs": text, "parameters": {"targets": ["dog", "the"]}})
    assert {entry["token_str"] for entry in targets} == {"dog", "the"}
    both = loaded.answer({"inputs": "the [MASK] [MASK]", "parameters": {"top_k": 2}})
    assert [len(one) for one in both] == [2, 2]
    for request, message in (
        ({"inputs": "no gap"}, r"must be a text with a gap, written \[MASK\]"),
        ({"inputs": "[MASK] " * 20}, "22 tokens long; at most 16"),
        ({"inputs": text, "parameters": {"targets": [""]}}, "targets must be texts"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded.answer(request)


def test_any_text_is_scored(trained: Any, tmp_path: Path) -> None:
    domain, _, network, _ = trained
    (tmp_path / "b.txt").write_text(TEXT * 3)
    with torch.no_grad():
        parts = [
            domain.outcomes(network, domain.collate(rows))
            for rows in domain.read([str(tmp_path / "b.txt")], 2)
        ]
    assert domain.metrics(joined(parts))["accuracy"] > 0.1


def test_classification_starts_from_it(trained: Any, project: Path) -> None:
    domain, _, network, folder = trained
    lines = [f"{w} brown dog {i},{w}" for i in range(30) for w in ("quick", "lazy")]
    (project / "b.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    start = {"pretrained": str(folder), "freeze": 1}
    classifier, rows, manifest = opened(project, "classification", start, source="b.csv")
    assert manifest["settings"]["context"] == 16
    text = "the lazy 狐狸"
    assert classifier.vocabulary.encode(text).tolist() == domain.vocabulary.encode(text).tolist()
    built = classifier.network()
    state = network.state_dict()
    for name, tensor in built.bert.state_dict().items():
        assert name.startswith("pooler") or torch.equal(tensor, state[f"bert.{name}"])
    trainable = {name for name, p in built.named_parameters() if p.requires_grad}
    assert trainable == {
        "bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"
    }  # fmt: skip
    classifier.loss(built, classifier.collate(rows.slice(0, 4))).backward()

"""Pictures from files to answers: what training sees is what serving sees."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)

from cluster.spec import ModelSpec, load
from cluster.storage import open_storage
from jobs import domains
from jobs.domains.vision.decoding import encode_png
from jobs.prepare import prepare
from jobs.rows import Columns, open_rows
from jobs.scoring import joined

torch.set_num_threads(1)
SMALL = {"type": "cnn", "width": 4, "stages": 2}
NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": SMALL,
    "resnet": {"type": "resnet", "width": 4, "stages": 2, "blocks": 1},
}


class Project:
    """Prepared pictures, and their domain."""

    def __init__(
        self, store: Path, folder: Path, network: dict[str, Any], source: str, **train: Any
    ) -> None:
        document = {
            "name": "x",
            "cluster": {"storage": str(store)},
            "models": {
                "m": {
                    "domain": "vision",
                    "task": "classification",
                    "network": network,
                    "data": source,
                    "train": train,
                }
            },
        }
        (folder / "cluster.yaml").write_text(json.dumps(document))
        spec = load(folder / "cluster.yaml")
        self.model: ModelSpec = spec.model("m")
        self.storage = open_storage(spec.cluster.storage, "x")
        self.prepared = prepare(self.model, self.storage, lambda text: None)
        self.processor = store / "x" / self.prepared.path / "processor"
        self.domain = domains.open_domain(self.model, self.processor)

    def rows(self, split: str, count: int) -> Columns:
        return open_rows(self.storage, self.prepared.digest, split).slice(0, count)

    def save(self, network: Any, folder: Path) -> Path:
        self.domain.save(network, network.state_dict(), folder)
        return folder


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the digits are prepared once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(params=["cnn", "resnet"])
def digits(request: pytest.FixtureRequest, store: Path, tmp_path: Path) -> Project:
    torch.manual_seed(0)
    return Project(store, tmp_path, NETWORKS[request.param], "builtin:digits", label_smoothing=0.1)


def train(project: Project, network: Any, steps: int, lr: float = 0.01) -> None:
    rows = project.rows("train", 1000)
    optimizer = torch.optim.AdamW(network.parameters(), lr)
    network.train()
    for step in range(steps):
        chosen = np.arange(step * 64, step * 64 + 64) % len(rows["label"])
        batch = project.domain.collate({k: v[chosen] for k, v in rows.items()}, step)
        optimizer.zero_grad()
        project.domain.loss(network, batch).backward()
        optimizer.step()
    network.eval()


@torch.no_grad()
def test_from_a_builtin_source_to_an_answer(digits: Project, tmp_path: Path) -> None:
    domain, held_back = digits.domain, digits.rows("validation", 1000)
    network = domain.network()
    with torch.enable_grad():
        train(digits, network, 60)
    parts = [{k: v[i : i + 50] for k, v in held_back.items()} for i in range(0, 150, 50)]
    outcomes = joined([domain.outcomes(network, domain.collate(part)) for part in parts])
    metrics = domain.metrics(outcomes)
    assert metrics["accuracy"] > 0.6
    assert metrics["top_5"] >= metrics["accuracy"]
    assert {"macro_f1", "loss"} <= set(metrics)
    worst = domain.worst(outcomes, 3)
    chosen = [{k: v[worst] for k, v in columns.items()} for columns in (held_back, outcomes)]
    shown = domain.show(*chosen)
    assert all(item.png and Image.open(io.BytesIO(item.png)).size == (8, 8) for item in shown)

    loaded = domains.load("vision", "classification", digits.save(network, tmp_path / "bundle"))
    png = encode_png(held_back["pixels"][0].reshape(1, 8, 8))
    answer = loaded.answer({"inputs": base64.b64encode(png).decode(), "parameters": {"top_k": 3}})
    assert len(answer) == 3
    assert answer[0]["label"] == domain.labels[int(outcomes["predicted"][0])]
    assert answer[0]["score"] == pytest.approx(float(outcomes["confidence"][0]), rel=1e-4)
    before = loaded.answer({"inputs": png})
    assert len(before) == 5
    loaded.settle()
    assert isinstance(loaded._logits, torch.jit.ScriptModule)
    assert loaded.answer({"inputs": png}) == before


def test_serving_sees_what_training_saw(digits: Project, tmp_path: Path) -> None:
    rows = digits.rows("validation", 20)
    loaded = domains.load(
        "vision", "classification", digits.save(digits.domain.network(), tmp_path / "bundle")
    )
    pictures = [encode_png(pixels.reshape(1, 8, 8)) for pixels in rows["pixels"]]
    served = [loaded.row({"inputs": picture}) for picture in pictures]
    together = {"pixels": np.concatenate([row["pixels"] for row in served])}
    wanted = digits.domain.collate(rows)["pixel_values"]
    assert torch.equal(digits.domain.collate(together)["pixel_values"], wanted)
    assert wanted.mean().abs() < 0.1
    assert wanted.std() == pytest.approx(1, abs=0.1)


def test_plain_transformers_loads_a_resnet(store: Path, tmp_path: Path) -> None:
    project = Project(store, tmp_path, NETWORKS["resnet"], "builtin:digits")
    network = project.domain.network()
    train(project, network, 3)
    folder = project.save(network, tmp_path / "bundle")
    rows = project.rows("validation", 4)
    with torch.no_grad():
        wanted = project.domain.outcomes(network, project.domain.collate(rows))
        plain = AutoModelForImageClassification.from_pretrained(folder).eval()
        processor = AutoImageProcessor.from_pretrained(folder)
        images = [Image.fromarray(pixels.reshape(8, 8)) for pixels in rows["pixels"]]
        logits = plain(**processor(images, return_tensors="pt")).logits
    shares = logits.softmax(-1).max(-1).values.numpy()
    assert shares == pytest.approx(wanted["confidence"], rel=1e-4)
    assert plain.config.id2label[3] == "3"


def test_weights_come_back(digits: Project, tmp_path: Path) -> None:
    network = digits.domain.network()
    train(digits, network, 2)
    restored = digits.domain.restore(digits.save(network, tmp_path / "bundle"))
    assert {k: v.tolist() for k, v in restored.state_dict().items()} == {
        k: v.tolist() for k, v in network.state_dict().items()
    }


def test_a_pretrained_folder_gets_a_fresh_head(
    digits: Project, store: Path, tmp_path: Path
) -> None:
    network = digits.domain.network()
    train(digits, network, 2)
    folder = digits.save(network, tmp_path / "bundle")
    pictures = tmp_path / "pictures"
    for label, colour in (("dark", 20), ("light", 230)):
        (pictures / label).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (12 + i, 10), (colour, colour + i, colour)).save(
                pictures / label / f"{i}.png"
            )
    (tmp_path / "tuned").mkdir()
    settings = {"pretrained": str(folder), "freeze": "backbone"}
    tuned = Project(store, tmp_path / "tuned", settings, str(pictures))
    fresh = tuned.domain.network()
    assert tuned.domain.labels == ["dark", "light"]
    assert tuned.rows("train", 1)["pixels"].shape == (1, 64)
    changed = {k for k, v in fresh.state_dict().items() if not _equal(v, network.state_dict()[k])}
    assert changed
    assert all(name.startswith("classifier") for name in changed)
    trained = [name for name, p in fresh.named_parameters() if p.requires_grad]
    assert all(name.startswith("classifier") for name in trained)
    with torch.no_grad():
        outcomes = tuned.domain.outcomes(fresh, tuned.domain.collate(tuned.rows("train", 4)))
    assert np.isfinite(outcomes["nats"]).all()


def test_a_folder_of_transformers_making_keeps_its_processor(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    config = ViTConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=16,
        patch_size=8,
        num_labels=3,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.1] * 3).save_pretrained(
        folder
    )
    project = Project(store, tmp_path, {"pretrained": str(folder)}, "builtin:digits")
    rows = project.rows("train", 4)
    assert rows["pixels"].shape == (4, 3 * 16 * 16)
    values = project.domain.collate(rows)["pixel_values"].numpy()
    pixels = rows["pixels"].reshape(4, 3, 16, 16)
    assert values == pytest.approx((pixels / 255 - 0.1) / 0.5, abs=1e-5)
    network = project.domain.network()
    with torch.no_grad():
        outcomes = project.domain.outcomes(network, project.domain.collate(rows))
    assert np.isfinite(outcomes["nats"]).all()
    plain = AutoImageProcessor.from_pretrained(project.save(network, tmp_path / "bundle"))
    assert list(plain.image_mean) == [0.1] * 3


def test_pickled_weights_are_refused(digits: Project, tmp_path: Path) -> None:
    folder = digits.save(digits.domain.network(), tmp_path / "bundle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickle"):
        digits.domain.restore(folder)


def test_augmentation_follows_the_seed(store: Path, tmp_path: Path) -> None:
    settings = {"crop": "25%", "flip": True, "erase": "50%"}
    project = Project(store, tmp_path, SMALL, "builtin:digits", augment=settings)
    rows = project.rows("train", 64)
    plain, first, again, other = (
        project.domain.collate(rows, seed)["pixel_values"] for seed in (None, 7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain)
    assert first.shape == plain.shape
    erased = ((first == 0).flatten(1).sum(1) > 0).float().mean()
    assert 0.3 < erased < 0.7


def test_a_simple_baseline(digits: Project) -> None:
    batches = [digits.rows("train", 600)]
    found = digits.domain.baseline(batches, [digits.rows("validation", 200)])
    assert found["accuracy"] > 0.8
    assert found["majority_accuracy"] < 0.2
    assert found["name"]


def test_wrong_requests_are_refused(digits: Project, tmp_path: Path) -> None:
    bundle = digits.save(digits.domain.network(), tmp_path / "bundle")
    loaded = domains.load("vision", "classification", bundle)
    png = encode_png(np.random.default_rng(0).integers(0, 255, (1, 8, 8), np.uint8))
    huge = b"P5 100000 100000 255\n"
    for request, message in (
        ({}, "must be a picture"),
        ({"inputs": "not base64!"}, "not base64"),
        ({"inputs": b"hello"}, "no picture of a known format"),
        ({"inputs": png[: len(png) // 2 + 10]}, "broken"),
        ({"inputs": huge}, "megapixels"),
        ({"inputs": png, "parameters": {"top_k": 0}}, "top_k"),
        ({"inputs": png, "parameters": {"topk": 1}}, "unknown parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded.answer(request)


def test_flops_are_counted(digits: Project) -> None:
    network = digits.domain.network()
    assert 1e4 < digits.domain.flops(network) < 1e8
    assert digits.domain.count(digits.domain.collate(digits.rows("train", 5))) == 5


def test_any_files_are_read_as_rows(store: Path, tmp_path: Path) -> None:
    project = Project(store, tmp_path, SMALL, "builtin:digits")
    rows = list(project.domain.read(["builtin:digits"], 1000))
    assert [len(part["label"]) for part in rows] == [1000, 797]
    assert rows[0]["pixels"].shape == (1000, 64)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cluster.spec import load
from cluster.storage import open_storage
from jobs.domains import load as load_model
from jobs.domains import open_domain
from jobs.domains.speech.decoding import greedy
from jobs.domains.speech.padding import joined_rows
from jobs.domains.speech.sounds import encode_wav
from jobs.domains.speech.transcripts import errors_of
from jobs.prepare import prepare
from jobs.prepared import PreparedData
from jobs.scoring import joined, score_rows

torch.set_num_threads(1)
RATE = 8000
TONES = {"low": 300, "high": 1200}
YAML = """
name: acme
cluster: {storage: ./store}
models:
  words:
    domain: speech
    task: recognition
    data:
      source: words
      columns: {audio: file, text: text, speaker: speaker}
      audio: {rate: 8000, longest: 2s}
      split: {validation: 20%, test: 0%}
      max_bad: 20%
    network: {type: ctc, layers: 1, width: 32, heads: 2, subsampling: 2, mels: 24, dropout: 0}
    train: {steps: 60, global_batch: 16, optimizer: {lr: 5e-3}, augment: {speed: 5%}}
"""


def tone(text: str, seed: int, seconds: float) -> np.ndarray:
    generator = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    wave = np.sin(2 * np.pi * TONES[text] * times) * 0.3
    return (wave + generator.normal(size=times.size) * 0.01) * np.hanning(times.size)


def write_words(folder: Path, count: int = 30) -> None:
    folder.mkdir()
    lines = ["file,text,speaker"]
    for i in range(count):
        text = ("low", "high")[i % 2]
        content = encode_wav(tone(text, i, 0.3 + 0.01 * i), RATE)
        (folder / f"{i}.wav").write_bytes(content)
        lines.append(f"{i}.wav,{text.title()}!,{'ab'[i % 3 == 0]}")
    (folder / "words.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Prepared data of two words, and their model's spec."""
    folder = tmp_path_factory.mktemp("speech")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(folder / "cache"))
        write_words(folder / "words")
        (folder / "words" / "30.wav").write_bytes(b"RIFF not a sound")
        with (folder / "words" / "words.csv").open("a") as file:
            file.write("30.wav,low,a\n")
        (folder / "cluster.yaml").write_text(YAML)
        spec = load(str(folder / "cluster.yaml"), root=folder)
        model = spec.model("words")
        storage = open_storage(spec.cluster.storage, spec.name)
        prepared = prepare(model, storage, lambda line: None)
        data = PreparedData(storage, prepared.digest)
        rows = data.rows("train"), data.rows("validation")
        yield SimpleNamespace(model=model, data=data, rows=rows, folder=folder)


@pytest.fixture(scope="module")
def trained(place: Any) -> Any:
    domain = open_domain(place.model, place.data.processor())
    torch.manual_seed(0)
    network = domain.network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    generator = np.random.default_rng(0)
    losses = []
    for step in range(20):
        batch = domain.collate(place.rows[0].take(generator.permutation(24)[:12]), step)
        loss = domain.loss(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return SimpleNamespace(domain=domain, network=network.eval(), losses=losses)


def test_learns_and_is_held_against_a_baseline(place: Any, trained: Any) -> None:
    assert trained.losses[-1] < 0.3 * trained.losses[0]
    device = torch.device("cpu")
    found = score_rows(trained.domain, trained.network, place.rows[1], 4, device)
    assert set(found) == {"wer", "cer", "loss"}
    base = trained.domain.baseline([place.rows[0].slice(0, 99)], [place.rows[1].slice(0, 99)])
    assert base["name"] == "spectrum and logistic regression"
    assert base["wer"] == 0.0


def test_bad_recordings_are_counted(place: Any) -> None:
    manifest = place.data.manifest
    assert manifest["dropped"] == {"no recording of a known format, or a broken one": 1}
    assert manifest["splits"]["train"]["rows"] + manifest["splits"]["validation"]["rows"] == 30


def test_padding_changes_nothing(place: Any, trained: Any) -> None:
    domain, network = trained.domain, trained.network
    with torch.no_grad():
        whole = domain.outcomes(network, domain.collate(place.rows[0].slice(0, 8)))
        rows = [place.rows[0].slice(i, i + 1) for i in range(8)]
        parts = joined([domain.outcomes(network, domain.collate(row)) for row in rows])
        loss = domain.loss(network, domain.collate(place.rows[0].slice(0, 8)))
    assert np.allclose(whole["nats"], parts["nats"], atol=1e-5)
    assert whole["heard"].tolist() == parts["heard"].tolist()
    assert loss.item() == pytest.approx(parts["nats"].mean(), abs=1e-5)


def test_serving_hears_what_training_heard(place: Any, trained: Any, tmp_path: Path) -> None:
    domain, network = trained.domain, trained.network
    domain.save(network, network.state_dict(), tmp_path / "bundle")
    loaded = load_model("speech", "recognition", tmp_path / "bundle")
    taken = place.rows[0].slice(0, 30)
    for i in range(30):
        row = loaded.row({"inputs": (place.folder / "words" / f"{i}.wav").read_bytes()})
        size = row["audio"].shape[1]
        same = [
            j
            for j in range(len(taken["audio"]))
            if taken["audio_length"][j] == size
            and np.array_equal(taken["audio"][j, :size], row["audio"][0])
        ]
        if same:
            batch = domain.collate(place.rows[0].slice(same[0], same[0] + 1))
            values, lengths = loaded.hearing.hear(row)
            assert torch.equal(batch["input_values"], values)
            assert torch.equal(batch["lengths"], lengths)
            break
    else:
        raise AssertionError("no training recording found")
    requests = [{"inputs": (place.folder / "words" / f"{i}.wav").read_bytes()} for i in (0, 1)]
    rows = [loaded.row(request) for request in requests]
    logits, steps = network(*loaded.hearing.hear(joined_rows(rows)))
    expected = greedy(logits, steps, domain.characters)
    assert [answer["text"] for answer in loaded.answers(rows, requests)] == expected
    for wrong in (b"", b"noise", 7, "not base64!", None):
        with pytest.raises(ValueError, match="recording"):
            loaded.row({"inputs": wrong})


def test_half_the_precision_is_near(place: Any, trained: Any) -> None:
    domain, batch = trained.domain, trained.domain.collate(place.rows[0].slice(0, 8))
    network = domain.network()
    network.load_state_dict(trained.network.state_dict())
    with torch.no_grad():
        exact = domain.loss(trained.network, batch).item()
        near = domain.loss(network.bfloat16().eval(), batch).item()
    assert near == pytest.approx(exact, rel=0.05)


def test_augmentation_follows_its_seed(place: Any, trained: Any) -> None:
    rows = place.rows[0].slice(0, 4)
    one, same, other = (trained.domain.collate(rows, seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert one["input_values"].shape != other["input_values"].shape or not torch.equal(
        one["input_values"], other["input_values"]
    )


def test_a_report_shows_sounds(place: Any, trained: Any) -> None:
    domain, rows = trained.domain, place.rows[0].slice(0, 3)
    with torch.no_grad():
        outcomes = domain.outcomes(trained.network, domain.collate(rows))
    shown = domain.show(rows, outcomes)[0]
    assert shown.wav is not None
    assert shown.wav[:4] == b"RIFF"
    assert shown.png is not None
    assert shown.note.startswith('heard "')
    outcomes = outcomes | errors_of(outcomes["said"].tolist(), ["x", *outcomes["said"][1:]])
    assert domain.worst(outcomes, 5).tolist() == [0]
    titles = [detail.title for detail in domain.details(outcomes)]
    assert titles == ["Speakers, the worst first", "Words misheard most often"]


def test_any_files_are_read_as_rows(place: Any, trained: Any) -> None:
    found = list(trained.domain.read([str(place.folder / "words")], 16))
    assert [len(rows["audio"]) for rows in found] == [16, 14]
    batch = trained.domain.collate(found[0])
    assert batch["targets"].shape[0] == 16

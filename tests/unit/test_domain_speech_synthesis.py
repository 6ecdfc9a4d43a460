import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from cluster.spec import load
from cluster.storage import open_storage
from jobs.domains import load as load_model
from jobs.domains import open_domain
from jobs.domains.speech.attention import alignment_of
from jobs.domains.speech.convolving import Convolutions
from jobs.domains.speech.features import Mels, log_mels
from jobs.domains.speech.pictures import GAP, SCALE
from jobs.domains.speech.sounds import encode_wav
from jobs.domains.speech.tacotron import REST_FRAMES, Tacotron2Config, Tacotron2ForSynthesis
from jobs.domains.speech.tacotron_loss import losses_of
from jobs.domains.speech.vocoder import GriffinLim
from jobs.prepare import prepare
from jobs.prepared import PreparedData
from jobs.scoring import joined

torch.set_num_threads(1)
RATE = 8000
YAML = """
name: acme
cluster: {storage: ./store}
models:
  voice:
    domain: speech
    task: synthesis
    data:
      source: voice
      audio: {rate: 8000, longest: 2s}
      split: {validation: 20%, test: 0%}
    network: {type: tacotron2, width: 16, decoder: 24, prenet: 8, attention: 8, mels: 20,
              reduction: 2, dropout: 0.1}
    train: {steps: 10, global_batch: 8}
"""
TEXTS = (
    "Ab, ba!",
    'Ba "ab" ab.',
    "Abba?",
    "Baab ba",
    "Bb aa",
    "Aa bb b",
    "Ab ab",
    "Ba ba",
    "A",
    "B",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Prepared data in LJSpeech's layout, and their model's spec."""
    folder = tmp_path_factory.mktemp("voice")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIPWAY_CACHE", str(folder / "cache"))
        (folder / "voice" / "wavs").mkdir(parents=True)
        lines = []
        for i, text in enumerate(TEXTS):
            times = np.arange(int(RATE * (0.2 + 0.02 * i))) / RATE
            wave = np.sin(2 * np.pi * (200 + 50 * i) * times) * 0.3
            (folder / "voice" / "wavs" / f"v{i}.wav").write_bytes(encode_wav(wave, RATE))
            lines.append(f"v{i}|{text}|{text}")
        (folder / "voice" / "metadata.csv").write_text("\n".join(lines) + "\n")
        (folder / "cluster.yaml").write_text(YAML)
        spec = load(str(folder / "cluster.yaml"), root=folder)
        storage = open_storage(spec.cluster.storage, spec.name)
        prepared = prepare(spec.model("voice"), storage, lambda line: None)
        data = PreparedData(storage, prepared.digest)
        rows = data.rows("train"), data.rows("validation")
        yield SimpleNamespace(model=spec.model("voice"), data=data, rows=rows)


@pytest.fixture(scope="module")
def trained(place: Any) -> Any:
    domain = open_domain(place.model, place.data.processor())
    torch.manual_seed(0)
    network = domain.network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for step in range(12):
        loss = domain.loss(network, domain.collate(place.rows[0].slice(0, 8), step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return SimpleNamespace(domain=domain, network=network.eval(), losses=losses)


def test_learns(place: Any, trained: Any) -> None:
    assert trained.losses[-1] < 0.8 * trained.losses[0]
    assert place.data.manifest["splits"]["train"]["rows"] == 8


def test_padding_changes_nothing(place: Any, trained: Any) -> None:
    domain, network = trained.domain, trained.network
    with torch.no_grad():
        whole = domain.outcomes(network, domain.collate(place.rows[0].slice(0, 8)))
        rows = [place.rows[0].slice(i, i + 1) for i in range(8)]
        parts = joined([domain.outcomes(network, domain.collate(row)) for row in rows])
        loss = domain.loss(network, domain.collate(place.rows[0].slice(0, 8)))
    for name in ("loss", "mel_loss", "alignment", "stopped", "frames"):
        assert np.allclose(whole[name], parts[name], atol=1e-5), name
    assert loss.item() == pytest.approx(parts["loss"].mean(), abs=1e-5)
    assert set(domain.metrics(whole)) == {"mel_loss", "alignment", "loss"}


def test_training_counts_no_padding(place: Any, trained: Any) -> None:
    """Batch norms see the same values whatever fills up the batch."""
    layers = Convolutions([3, 4, 4], "relu", 0.0)
    states = torch.randn(2, 5, 3)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    wider = torch.cat([states, torch.ones(2, 4, 3)], 1)
    longer = torch.cat([mask, torch.zeros(2, 4, dtype=torch.bool)], 1)
    assert torch.allclose(layers(states, mask), layers(wider, longer)[:, :5], atol=1e-6)


def test_serving_speaks_as_training_would(place: Any, trained: Any, tmp_path: Path) -> None:
    domain, network = trained.domain, trained.network
    domain.save(network, network.state_dict(), tmp_path)
    loaded = load_model("speech", "synthesis", tmp_path)
    row = loaded.row({"inputs": ' Ba  "AB" ab.'})
    served = loaded.scripts.collate(row)
    every = [rows.slice(i, i + 1) for rows in place.rows for i in range(len(rows))]
    found = [domain.collate(rows) for rows in every]
    taken = next(b for b in found if torch.equal(b["input_ids"], served["input_ids"]))
    assert all(torch.equal(served[name], taken[name]) for name in served)
    answer = loaded.answer({"inputs": "Abba?"})
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(answer["audio"])))
    assert rate == answer["sampling_rate"] == RATE
    assert len(samples) <= RATE * 2.5  # the bound on an untrained voice's length
    for wrong in (None, 7, "", "  ", "12", "a" * 601):
        with pytest.raises(ValueError, match="text"):
            loaded.row({"inputs": wrong})
    with pytest.raises(ValueError, match="no speaker"):
        loaded.row({"inputs": "ab", "parameters": {"speaker": "x"}})


def test_half_the_precision_is_near(place: Any, trained: Any) -> None:
    domain, batch = trained.domain, trained.domain.collate(place.rows[0].slice(0, 8))
    network = domain.network()
    network.load_state_dict(trained.network.state_dict())
    network = network.bfloat16().eval()
    with torch.no_grad():
        exact, near = (domain.loss(n, batch).item() for n in (trained.network, network))
        spoken = domain.scripts.speak(network, batch)
    assert near == pytest.approx(exact, rel=0.05)
    assert spoken.after.dtype == torch.float32


def test_a_report_shows_both_sounds(place: Any, trained: Any) -> None:
    domain, rows = trained.domain, place.rows[0].slice(0, 1)
    with torch.no_grad():
        outcomes = domain.outcomes(trained.network, domain.collate(rows))
    recorded, spoken = domain.show(rows, outcomes)
    assert recorded.wav[:4] == spoken.wav[:4] == b"RIFF"
    assert spoken.png[1:4] == b"PNG"
    # below each spectrogram is where attention looked, a row a character and one for the end
    rows_of_points = 20 + GAP + len(recorded.text) + 1
    for shown in (recorded, spoken):
        assert Image.open(io.BytesIO(shown.png)).height == SCALE * rows_of_points
    assert domain.worst(outcomes, 3).tolist() == [0]
    assert domain.details(outcomes)
    assert domain.baseline([rows], [rows])["mel_loss"] > 0


def test_alignment_is_one_pass_over_the_text() -> None:
    reading = torch.eye(10).repeat_interleave(3, 0)
    assert alignment_of(reading, 10) == 1.0
    assert alignment_of(reading[:15], 10) < 0.6
    assert alignment_of(reading.flip(0), 10) < 0.8
    stuck = torch.zeros(30, 10)
    stuck[:, 4] = 1
    assert alignment_of(stuck, 10) < 0.5


def test_the_vocoder_gives_back_what_it_is_given() -> None:
    mels = Mels.of(16000, 80, 0.05, 0.0125)
    times = torch.arange(8000) / 16000
    wave = 0.3 * torch.sin(2 * torch.pi * 440 * times) + 0.1 * torch.sin(
        2 * torch.pi * 1320 * times
    )
    wanted = log_mels(wave[None], torch.tensor([8000]), mels)[0][0]
    rebuilt = GriffinLim(mels).speak(wanted)
    found = log_mels(rebuilt[None], torch.tensor([len(rebuilt)]), mels)[0][0][: len(wanted)]
    assert torch.equal(found[5:-5].exp().mean(0).argmax(), wanted[5:-5].exp().mean(0).argmax())
    assert torch.equal(rebuilt, GriffinLim(mels).speak(wanted))


def test_the_stop_may_come_in_the_last_tenth_of_a_second() -> None:
    """A voice that stops then has less loss than one that misses it, or stops before."""

    def loss_of(stops: list[float]) -> float:
        steps = len(stops)
        mels = torch.zeros(1, 4 * steps, 3)
        spoken: Any = SimpleNamespace(
            before=mels,
            after=mels,
            stops=torch.tensor([stops]),
            attention=torch.zeros(1, steps, 5),
        )
        batch = {"mels": mels, "frames": torch.tensor([4 * steps]), "lengths": torch.tensor([5])}
        return float(losses_of(spoken, batch, 4, 0.0)["loss"])

    never = [-5.0] * 30
    late = [*never[:-3], 5.0, 5.0, 5.0]  # after the third from last, eight frames are unsaid
    assert loss_of(late) < 0.1
    assert loss_of([*never[:-1], 5.0]) > loss_of(late)
    assert loss_of([*never[:10], 5.0, *never[11:-3], 5.0, 5.0, 5.0]) > loss_of(late)
    assert loss_of(never) > 2


def test_attention_at_rest_on_the_last_character_is_an_end(monkeypatch: Any) -> None:
    config = Tacotron2Config(5, num_mels=4, width=8, decoder=8, prenet=4, attention=4, reduction=2)
    network = Tacotron2ForSynthesis(config).eval()
    torch.nn.init.constant_(network.decoder.stop.bias, -100.0)  # the stop token never comes
    lengths, places = torch.tensor([3, 6]), iter(range(1000))

    def read_on(query: Any, prepared: Any, memory: Any, seen: Any, mask: Any) -> Any:
        """A character a step to the end of the shorter text; short of the longer one's end."""
        at = torch.stack([torch.tensor(next(places)).clamp(max=2), torch.tensor(4)])
        weights = torch.nn.functional.one_hot(at, mask.shape[1]).to(memory.dtype)
        return (weights[:, None] @ memory)[:, 0], weights

    monkeypatch.setattr(network.decoder.attention, "forward", read_on)
    with torch.inference_mode():
        spoken = network(
            torch.ones(2, 6, dtype=torch.long),
            lengths,
            torch.zeros(2, dtype=torch.long),
            bounds=torch.tensor([60, 60]),
        )
    assert spoken.has_stopped.tolist() == [True, False]
    assert spoken.frames.tolist() == [2 * 2 + REST_FRAMES, 120]

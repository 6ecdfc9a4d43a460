import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSpeechSeq2Seq,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from jobs.domains import load as load_model
from jobs.domains import open_domain
from jobs.domains.files import DataError
from jobs.domains.speech.characters import Characters, text_column
from jobs.domains.speech.padding import joined_rows
from jobs.domains.speech.preparation import SpeechPreparation
from jobs.domains.speech.pretrained import copy_processor, known_processor
from jobs.domains.speech.sounds import Sound, encode_wav

torch.set_num_threads(1)
MARKS = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
LETTERS = [*"abc", "Ġ"]


def write_network(folder: Path) -> Path:
    """A tiny Whisper of a second as transformers saves it, of letters for tokens."""
    torch.manual_seed(0)
    vocabulary = {token: number for number, token in enumerate([*LETTERS, *MARKS])}
    extra = {"additional_special_tokens": MARKS[1:], "pad_token": MARKS[0]}
    tokenizer = WhisperTokenizer(vocabulary, [], language="en", task="transcribe", **extra)
    tokenizer.save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=8, sampling_rate=8000, chunk_length=1)
    extractor.save_pretrained(folder)
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        num_mel_bins=8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=25,
        max_target_positions=16,
        pad_token_id=len(LETTERS),
        bos_token_id=len(LETTERS),
        eos_token_id=len(LETTERS),
        decoder_start_token_id=len(LETTERS) + 1,
    )
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    return folder


def rows_of(octave: int, size: int, text: str) -> dict[str, Any]:
    wave = np.sin(np.arange(size) * 2.0**octave * np.pi / 16) * 3000
    length = {"audio_length": np.asarray([size])}
    texts = {**text_column("text", text), **text_column("speaker", "x")}
    return {"audio": wave.astype(np.int16)[None], **length, **texts}


def spec_of(source: Path, longest: float = 1.0) -> Any:
    augment = SimpleNamespace(speed=0.1, noise=0.5, mask=0.2, warp=0.1)
    audio = SimpleNamespace(rate=16_000, longest=longest, trim=True, loudness=-25.0)
    return SimpleNamespace(
        domain="speech",
        task="recognition",
        network=SimpleNamespace(pretrained=str(source), freeze=0),
        train=SimpleNamespace(augment=augment),
        data=SimpleNamespace(audio=audio),
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_network(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def domain(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    processor = tmp_path_factory.mktemp("processor")
    known = known_processor(str(source))
    copy_processor(known, processor, Characters.learn("abc"))
    Sound(known.rate, 1.0).save(processor)
    return open_domain(spec_of(source), processor)


def test_texts_become_tokens_after_its_own_prompt(domain: Any) -> None:
    batch = domain.collate(joined_rows([rows_of(1, 3000, "ab c"), rows_of(2, 4000, "b")]))
    assert domain.tokens.tokenizer.convert_ids_to_tokens(domain.tokens.prompt)[0] == MARKS[1]
    assert batch["targets"].tolist() == [[0, 1, 3, 2, 4], [1, 4, 4, 4, 4]]
    assert batch["target_lengths"].tolist() == [5, 2]
    assert domain.tokens.decode([0, 1, 3, 2, 4]) == "ab c"
    assert batch["input_values"].shape == (2, 8, 50)


def test_the_loss_is_that_of_transformers(domain: Any) -> None:
    network = domain.network().eval()
    batch = domain.collate(rows_of(1, 3000, "ab c"))
    labels = torch.tensor([[*domain.tokens.prompt[1:], *batch["targets"][0].tolist()]])
    with torch.no_grad():
        logits = network(input_features=batch["input_values"], labels=labels).logits[0]
    own = torch.nn.functional.cross_entropy(logits[-5:], batch["targets"][0])
    assert torch.allclose(domain.loss(network, batch), own, atol=1e-5)


def test_learns_writes_and_saves(domain: Any, tmp_path: Path) -> None:
    network = domain.network()
    rows = [rows_of(1, 2000, "ab"), rows_of(2, 3000, "cab")]
    batch = domain.collate(joined_rows(rows))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-2)
    network.train()
    for _ in range(80):
        optimizer.zero_grad()
        domain.loss(network, batch).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        whole = domain.outcomes(network, batch)
        parts = [domain.outcomes(network, domain.collate(row)) for row in rows]
    assert whole["heard"].tolist() == ["ab", "cab"]
    assert np.allclose(whole["nats"], [part["nats"][0] for part in parts], atol=1e-5)
    domain.save(network, network.state_dict(), tmp_path)
    loaded = load_model("speech", "recognition", tmp_path)
    wav = encode_wav(rows[1]["audio"][0], 8000)
    assert set(loaded.answer({"inputs": wav})) == {"text"}
    hears = loaded.texts(batch["input_values"], batch["lengths"])
    assert hears == ["ab", "cab"]
    again = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in again.state_dict().items())


def test_augmentation_is_the_seeds(domain: Any) -> None:
    rows = rows_of(1, 3000, "ab")
    first, again, other = (domain.collate(rows, seed)["input_values"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_recordings_longer_than_it_hears_are_refused_by_name(source: Path) -> None:
    assert json.loads((source / "config.json").read_text())["model_type"] == "whisper"
    with pytest.raises(DataError, match=r"data.audio.longest: 20 s is more than the 1 s"):
        SpeechPreparation.__init__(
            SpeechPreparation.__new__(SpeechPreparation), spec_of(source, 20.0)
        )

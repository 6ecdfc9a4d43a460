import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCTC, Wav2Vec2Config, Wav2Vec2ForCTC

from jobs.domains import load as load_model
from jobs.domains import open_domain
from jobs.domains.speech.characters import Characters, text_column
from jobs.domains.speech.padding import joined_rows
from jobs.domains.speech.pretrained import copy_processor, known_processor
from jobs.domains.speech.sounds import Sound, encode_wav

torch.set_num_threads(1)
VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "C"]


def write_network(folder: Path, norm: str = "layer") -> Path:
    """A tiny wav2vec 2.0 as transformers saves it."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=[8, 8],
        conv_kernel=[10, 8],
        conv_stride=[5, 8],
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(VOCABULARY)}))
    heard = {"sampling_rate": 8000, "do_normalize": True, "return_attention_mask": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(heard))
    return folder


def rows_of(seed: int, size: int, text: str) -> dict[str, Any]:
    wave = np.random.default_rng(seed).normal(size=size) * 3000
    length = {"audio_length": np.asarray([size])}
    texts = {**text_column("text", text), **text_column("speaker", "x")}
    return {"audio": wave.astype(np.int16)[None], **length, **texts}


def open_for(source: Path, processor: Path) -> Any:
    known = known_processor(str(source))
    copy_processor(known, processor, Characters.learn("abc"))
    Sound(known.rate).save(processor)
    model: Any = SimpleNamespace(
        domain="speech",
        task="recognition",
        network=SimpleNamespace(pretrained=str(source), freeze=1),
        train=SimpleNamespace(augment=SimpleNamespace(speed=0.1, noise=0.5, mask=0.2)),
    )
    return SimpleNamespace(domain=open_domain(model, processor), source=source)


@pytest.fixture(scope="module", params=["layer", "group"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    source = write_network(tmp_path_factory.mktemp("w2v"), request.param)
    return open_for(source, tmp_path_factory.mktemp("processor"))


def test_its_own_characters_are_kept(opened: Any) -> None:
    domain = opened.domain
    assert domain.sound.rate == 8000
    assert domain.characters.encode("ab c") == [5, 6, 4, 7]
    network = domain.network()
    assert network.lm_head.out_features == len(VOCABULARY)
    expected = AutoModelForCTC.from_pretrained(opened.source)
    assert torch.equal(network.lm_head.weight, expected.lm_head.weight)
    assert not network.wav2vec2.encoder.layers[0].attention.q_proj.weight.requires_grad


def test_trains_pads_and_saves(opened: Any, tmp_path: Path) -> None:
    domain, network = opened.domain, opened.domain.network()
    alone = [rows_of(1, 2000, "ab"), rows_of(2, 3000, "cab")]
    network.train()
    domain.loss(network, domain.collate(joined_rows(alone), 3)).backward()
    network.eval()
    with torch.no_grad():
        whole = domain.outcomes(network, domain.collate(joined_rows(alone)))
        parts = [domain.outcomes(network, domain.collate(rows)) for rows in alone]
    assert np.allclose(whole["nats"], [part["nats"][0] for part in parts], atol=1e-5)
    domain.save(network, network.state_dict(), tmp_path)
    loaded = load_model("speech", "recognition", tmp_path)
    wav = encode_wav(alone[1]["audio"][0], 8000)
    answer = loaded.answer({"inputs": wav})
    assert set(answer) == {"text"}
    row = loaded.row({"inputs": wav})
    assert torch.equal(loaded.hearing.hear(row)[0], domain.hearing.hear(row)[0])
    again = AutoModelForCTC.from_pretrained(tmp_path)
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in again.state_dict().items())


def test_other_networks_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="bert is not available for speech recognition"):
        known_processor(str(tmp_path))

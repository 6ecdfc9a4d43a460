import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch

from cluster.spec import load
from jobs.domains import open_preparation
from jobs.domains.files import DataError
from jobs.domains.records.record import Bad
from jobs.domains.speech import espeak
from jobs.domains.speech.characters import TEXTS, Characters, spoken, written
from jobs.domains.speech.features import Mels, log_mels
from jobs.domains.speech.sounds import Sound, SoundError, decode, encode_wav
from jobs.domains.speech.transcripts import errors_of, metrics_of

torch.set_num_threads(1)
SOUND = Sound(rate=8000, longest_s=2.0)
TONE = np.sin(2 * np.pi * 440 * np.arange(8000) / 16000) * 0.4


def encoded(
    samples: Any, rate: int = 16000, form: str = "WAV", subtype: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def preparation_of(folder: Path, source: str, **data: Any) -> Any:
    lines = [f"      {key}: {value}" for key, value in data.items()]
    (folder / "cluster.yaml").write_text(
        "name: acme\nmodels:\n  m:\n    domain: speech\n    task: recognition\n"
        f"    network: ctc\n    data:\n      source: {source}\n"
        "      audio: {rate: 8000, longest: 2s}\n" + "\n".join(lines) + "\n"
    )
    return open_preparation(load(str(folder / "cluster.yaml"), root=folder).model("m"))


def records_of(preparation: Any) -> list[Any]:
    return [record for source in preparation.sources() for record in preparation.read(source)]


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "PCM_U8"), ("FLAC", None), ("OGG", "VORBIS"),
     ("MP3", None)],
)  # fmt: skip
def test_formats_rates_and_channels_come_to_one(form: str, subtype: str | None) -> None:
    both = np.stack([TONE, TONE * 0.5], 1)
    samples = decode(encoded(both, 16000, form, subtype), SOUND)
    assert samples.dtype == np.int16
    assert len(samples) == pytest.approx(4000, abs=500)
    loud = np.sqrt(np.mean((samples / 32768.0) ** 2))
    assert 20 * np.log10(loud) == pytest.approx(-25, abs=0.5)
    line = np.abs(np.fft.rfft(samples[500:3500] * np.hanning(3000))).argmax() * 8000 / 3000
    assert line == pytest.approx(440, abs=5)


def test_silent_ends_are_cut() -> None:
    wave = np.concatenate([np.zeros(16000), TONE, np.zeros(8000)])
    assert len(decode(encoded(wave), SOUND)) == pytest.approx(4000 + 2 * 400, abs=100)
    whole = Sound(8000, 2.0, trim=False)
    assert len(decode(encoded(wave), whole)) == 16000


def cut_off() -> bytes:
    return encoded(TONE)[:-2000]


def lying() -> bytes:
    """A header that promises a thousand times more than there is."""
    content = bytearray(encoded(TONE))
    content[40:44] = struct.pack("<I", 16_000_000)
    return bytes(content)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda: b"", "empty file"),
        (lambda: b"RIFF0000WAVEnonsense", "broken"),
        (lambda: b"hello" * 99, "no recording of a known format"),
        (cut_off, "cut off"),
        (lying, "cut off"),
        (lambda: encoded(np.zeros(0)), "no samples"),
        (lambda: encoded(np.zeros(16000)), "silence"),
        (lambda: encoded(np.zeros(16000 * 60)), "longer than 2 s"),
        (lambda: encoded(np.tile(TONE, 5)), "longer than 2 s"),
        (lambda: encoded(np.array([0.1, np.nan] * 999), subtype="FLOAT"), "not numbers"),
        (lambda: encoded(TONE, 500), "impossible rate"),
    ],
)
def test_what_cannot_be_used_is_named(make: Callable[[], bytes], cause: str) -> None:
    with pytest.raises(SoundError, match=cause):
        decode(make(), SOUND)


def test_log_mels_are_librosas() -> None:
    mels = Mels.of(16000, 80, 0.025, 0.010)
    wave = np.random.default_rng(0).normal(size=8000).astype(np.float32) * 0.1
    found, frames = log_mels(torch.from_numpy(wave)[None], torch.tensor([8000]), mels)
    expected = librosa.feature.melspectrogram(
        y=wave, sr=16000, n_fft=512, hop_length=160, win_length=400, n_mels=80, power=1, fmax=8000,
        pad_mode="constant",
    )  # fmt: skip
    assert frames.tolist() == [51]
    assert np.abs(found[0].T.numpy() - np.log(np.maximum(expected, 1e-5))).max() < 1e-4


def test_texts_are_written_one_way() -> None:
    assert spoken("  “It\u2019s 5 o'clock” -- said\tÉloïse. ") == "it's 5 o'clock said éloïse"
    assert written(" Well,  THEN! ") == "well, then!"
    assert spoken("你好\uff0c世界。") == "你好 世界"
    characters = Characters.learn("ba")
    assert characters.encode("abc") == [2, 3]
    assert characters.unknown("abc") == ["c"]
    assert characters.decode([3, 0, 2, 9]) == "ba"


def test_error_rates_are_over_all_words() -> None:
    found = errors_of(["one two three", "four"], ["one too", "four"])
    assert metrics_of(found) == {"wer": 2 / 4, "cer": pytest.approx(7 / 17)}
    with pytest.raises(ValueError, match="no word"):
        metrics_of({name: values[:0] for name, values in found.items()})


def test_folders_by_label_and_zips(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for word in ("yes", "no_way"):
            content = encoded(TONE * (0.5 if word == "yes" else 0.3))
            (tmp_path / "words" / word).mkdir(parents=True)
            (tmp_path / "words" / word / "1.wav").write_bytes(content)
            archive.writestr(f"{word}/1.wav", content)
    for source in ("words", "all.zip"):
        records = records_of(preparation_of(tmp_path, source))
        assert [record.extra["text"] for record in records] == ["no way", "yes"]


def test_ljspeech_with_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "lj" / "wavs"
    folder.mkdir(parents=True)
    (folder / "a.wav").write_bytes(encoded(TONE))
    lines = ['a|"Dr. A" said|"Doctor A" said', "b|gone|gone", "only one cell", "a|...|..."]
    (tmp_path / "lj" / "metadata.csv").write_text("\n".join(lines))
    good, gone, cells, empty = records_of(preparation_of(tmp_path, "lj"))
    assert good.extra["text"] == "doctor a said"
    assert [bad.kind for bad in (gone, cells, empty)] == [
        "no such file", "1 columns, not 3", "no word in its text"
    ]  # fmt: skip
    assert gone.place.endswith("metadata.csv:2")
    assert isinstance(empty, Bad)


def test_a_table_names_its_columns(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.flac").write_bytes(encoded(TONE, form="FLAC"))
    (tmp_path / "set" / "t.csv").write_text("path,said,who\na.flac,Hello!,ann\n")
    columns = "{audio: path, text: said, speaker: who}"
    (record,) = records_of(preparation_of(tmp_path, "set/t.csv", columns=columns))
    assert dict(record.extra) == {"text": "hello", "speaker": "ann"}
    with pytest.raises(DataError, match=r"no column 'audio'.*path, said, who"):
        records_of(preparation_of(tmp_path, "set/t.csv"))


def test_characters_unseen_in_training_are_counted(tmp_path: Path) -> None:
    for part, word in (("train", "ab"), ("train", "ba"), ("held", "aé")):
        (tmp_path / part / word).mkdir(parents=True)
        level = 0.2 + 0.1 * len(word) + 0.01 * ord(word[0])
        wave = TONE * np.linspace(level, 0.1, len(TONE))
        (tmp_path / part / word / "1.wav").write_bytes(encoded(wave))
    split = "{validation: held, test: 0%}"
    preparation = preparation_of(tmp_path, "train", split=split)
    sources = preparation.sources()
    preparation.plan([preparation.inspect(source) for source in sources])
    preparation.fit(tmp_path / "processor", lambda line: None)
    blocks = [block for i in range(preparation.num_pieces) for block in preparation.encode(i)]
    assert [split for split, _ in preparation.pack(blocks)] == ["train", "validation"]
    assert preparation.counts()["validation"]['unknown character "é"'] == 1
    assert preparation.counts()["validation"]["rows"] == 1


def test_a_list_of_all_that_may_be_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, word in enumerate(("turn_left", "stop")):
        (tmp_path / "words" / word).mkdir(parents=True)
        wave = TONE * np.linspace(0.2, 0.3 + 0.1 * place, len(TONE))
        (tmp_path / "words" / word / "1.wav").write_bytes(encoded(wave))
    split = "{validation: 0%, test: 0%}"
    greedy = preparation_of(tmp_path, "words", split=split)
    known = preparation_of(tmp_path, "words", split=split)
    known.shape = known.shape.model_copy(update={"decode": "known"})
    assert known.settings() != greedy.settings()
    for preparation in (greedy, known):
        preparation.plan([preparation.inspect(source) for source in preparation.sources()])
    greedy.fit(tmp_path / "greedy", lambda line: None)
    assert not (tmp_path / "greedy" / TEXTS).exists()
    known.fit(tmp_path / "known", lambda line: None)
    assert json.loads((tmp_path / "known" / TEXTS).read_text()) == ["stop", "turn left"]
    monkeypatch.setattr("jobs.domains.speech.preparation.MOST_TEXTS", 1)
    with pytest.raises(DataError, match=r"network.decode: known is for lists of up to 1 "):
        known.fit(tmp_path / "many", lambda line: None)


def test_words_spoken_by_espeak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples, rate = espeak.speak("seven", "en-us", 175, 50)
    assert rate == 22050
    assert 0.2 < len(samples) / rate < 1.5
    monkeypatch.setattr(espeak, "spoken", lambda: (("seven", "en-us", samples, rate),))
    (record,) = records_of(preparation_of(tmp_path, "builtin:spoken"))
    assert dict(record.extra) == {"text": "seven", "speaker": "en-us"}
    assert len(decode(encode_wav(samples, rate), SOUND)) * 2 == len(record.content)
    with pytest.raises(DataError, match="has no voice nobody"):
        espeak.speak("seven", "nobody", 175, 50)

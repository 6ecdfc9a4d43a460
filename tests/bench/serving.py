"""Serving equals training: the same records by both ways, as tensors and as answers."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from cluster.spec import ModelSpec
from cluster.storage import open_storage
from jobs.domains import Columns, load, open_domain, open_preparation
from jobs.domains.records import Record
from jobs.domains.speech.characters import texts_of
from jobs.domains.speech.padding import joined_rows
from jobs.domains.speech.preparation import SpeechPreparation
from jobs.domains.speech.readers import Wanted, read_recordings
from jobs.domains.speech.sounds import encode_wav
from jobs.prepared import PreparedData
from jobs.runs import Run
from tests.bench.result import Result, Say
from tests.process_group import run_group
from tests.trainings import MODEL, Case, prepare_data, train_cases, write_spec

CLAIM = "serving equals training"
HOW = (
    "validation records (ratings: of the file itself) by the way of training (prepared rows, "
    "collate, outcomes) and by that of serving (requests, row, answers), over a published version: "
    "the tensors that the network is given, and what it answers; largest difference of a score, "
    "a probability or a sample"
)
LIMIT = 1e-6
RECORDS = 16
Answers = Sequence[tuple[Any, Any]]
"""Of each record what must be the same, and numbers that must be near."""


def measure(folder: Path, say: Say, sample: str) -> Result:
    """Publish a version after a few steps and take records through both ways."""
    train = {"steps": 4, "global_batch": 8, "workers": 1, "checkpoint": {"every": 4}}
    spec = write_spec(folder, train, sample=sample)
    data, case = prepare_data(spec), Case(0)
    run_group(train_cases, 1, spec, data, [case])
    torch.set_num_threads(1)
    storage, model = open_storage(spec.cluster.storage, spec.name), spec.model(MODEL)
    result = Run(storage, case.run).result()
    assert result is not None
    bundle = storage.local_path(f"models/{MODEL}/{result['version']}")
    assert bundle is not None
    held_back = PreparedData(storage, data).rows("validation")
    assert held_back is not None
    domain: Any = open_domain(model, PreparedData(storage, data).processor())
    loaded: Any = load(model.domain, model.task, bundle)
    return _compared(WAYS[sample], model, domain, loaded, bundle, held_back.slice(0, RECORDS), say)


def _compared(
    way: Way, model: ModelSpec, domain: Any, loaded: Any, bundle: Path, given: Columns, say: Say
) -> Result:
    rows, requests = way.requests(model, domain, loaded, given)
    batch = domain.collate(rows)
    served = [loaded.row(request) for request in requests]
    tensors = way.tensors(domain, loaded, served)
    unequal = [name for name, values in tensors.items() if not _equal(values, batch[name])]
    with torch.no_grad():
        expected = way.expected(domain, domain.restore(bundle).eval(), batch)
    pairs = list(zip(way.found(loaded.answers(served, requests)), expected, strict=True))
    others = sum(a != b for (a, _), (b, _) in pairs)
    worst = max(_largest(a, b) for (_, a), (_, b) in pairs)
    say(f"{len(requests)} records; unequal tensors: {', '.join(unequal) or 'none'}")
    holds = not unequal and not others and worst <= LIMIT
    holds &= len(requests) == RECORDS
    return Result(
        f"{len(unequal)} tensors and {others} answers differ, numbers by at most {worst:.1e}, "
        f"of {len(requests)} records",
        f"none; at most {LIMIT:.0e}",
        holds,
        {"unequal": unequal, "others": others, "worst": worst, "records": len(requests)},
    )


def _equal(served: torch.Tensor, trained: torch.Tensor) -> bool:
    if served.is_floating_point():  # NaN stands for nothing
        served, trained = served.nan_to_num(-1e9), trained.nan_to_num(-1e9)
    return torch.equal(served, trained)


def _largest(found: Any, expected: Any) -> float:
    one, other = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.abs(one - other).max(initial=0.0)) if one.shape == other.shape else np.inf


Requests = tuple[Columns, list[dict[str, Any]]]


def _of_contents(name: str) -> Callable[..., Requests]:
    """Requests with the source's own texts and files, found by the rows that they become."""

    def requests(model: ModelSpec, domain: Any, loaded: Any, rows: Columns) -> Requests:
        wanted = [_key(rows, name, place) for place in range(len(rows[name]))]
        found: dict[bytes, dict[str, Any]] = {}
        for content in _contents(model):
            request = {"inputs": content}
            key = _key(loaded.row(request), name, 0)
            if key in wanted:
                found.setdefault(key, request)
            if len(found) == len(set(wanted)):
                break
        kept = [place for place, key in enumerate(wanted) if key in found]
        return _chosen(rows, kept), [found[wanted[place]] for place in kept]

    return requests


def _contents(model: ModelSpec) -> Iterator[str | bytes]:
    """Texts, and encoded pictures and recordings, as they lie in the sources."""
    preparation: Any = open_preparation(model)
    for source in preparation.sources():
        if isinstance(preparation, SpeechPreparation):
            wanted = Wanted(preparation.columns("audio"), model.data.encoding)
            records = read_recordings(source, wanted)
        else:
            records = preparation.read(source)
        yield from (record.content for record in records if isinstance(record, Record))


def _key(rows: Columns, name: str, place: int) -> bytes:
    length = rows.get(f"{name}_length")
    values = rows[name][place]
    return np.asarray(values if length is None else values[: length[place]], np.int32).tobytes()


def _chosen(rows: Columns, places: list[int]) -> Columns:
    return {name: values[places] for name, values in rows.items()}


def _of_sentences(model: ModelSpec, domain: Any, loaded: Any, rows: Columns) -> Requests:
    pairs = zip(texts_of(rows["text"]), texts_of(rows["speaker"]), strict=True)
    return rows, [{"inputs": text, "parameters": {"speaker": who}} for text, who in pairs]


def _of_histories(model: ModelSpec, domain: Any, loaded: Any, rows: Columns) -> Requests:
    own, many = domain.catalogue.items.own, domain.shape.num_items
    histories = [
        [own(item) for item in items[:length].tolist() if item <= many]
        for items, length in zip(rows["items"], rows["items_length"], strict=True)
    ]
    return rows, [{"inputs": {"history": items}} for items in histories]


def _of_pairs(model: ModelSpec, domain: Any, loaded: Any, rows: Columns) -> Requests:
    read = next(iter(domain.read(model.data.source, len(rows["rating"]))))
    users, items = domain.catalogue.users, domain.catalogue.items
    pairs = zip(read["user"].tolist(), read["item"].tolist(), strict=True)
    return read, [{"inputs": {"user": users.own(u), "item": items.own(i)}} for u, i in pairs]


def _collated(domain: Any, loaded: Any, served: Sequence[Columns]) -> Mapping[str, torch.Tensor]:
    """By the domain's own collate, which the answers of these tasks call in its parts."""
    found: Mapping[str, torch.Tensor] = domain.collate(joined_rows(served))
    return found


def _heard(domain: Any, loaded: Any, served: Sequence[Columns]) -> Mapping[str, torch.Tensor]:
    values, lengths = loaded.hearing.hear(joined_rows(served))
    return {"input_values": values, "lengths": lengths}


def _scripted(domain: Any, loaded: Any, served: Sequence[Columns]) -> Mapping[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = loaded.scripts.collate(joined_rows(served))
    return found


def _taken(domain: Any, loaded: Any, served: Sequence[Columns]) -> Mapping[str, torch.Tensor]:
    found = loaded.collate(joined_rows(served))
    return {name: found[name] for name in ("items", "lengths", "seen")}


def _rated(domain: Any, loaded: Any, served: Sequence[Columns]) -> Mapping[str, torch.Tensor]:
    found = loaded.collate(joined_rows(served))
    return {name: found[name] for name in ("users", "items", "recent", "recent_ratings")}


def _labelled(domain: Any, network: Any, batch: Mapping[str, Any]) -> Answers:
    found = domain.outcomes(network, batch)
    names = [domain.labels[place] for place in found["predicted"].tolist()]
    return list(zip(names, found["confidence"].tolist(), strict=True))


def _transcribed(domain: Any, network: Any, batch: Mapping[str, Any]) -> Answers:
    return [(text, 0.0) for text in domain.outcomes(network, batch)["heard"].tolist()]


def _spoken(domain: Any, network: Any, batch: Mapping[str, Any]) -> Answers:
    said = domain.scripts.speak(network, batch)
    waves = [
        domain.vocoder.speak(mels[:frames]).numpy()
        for mels, frames in zip(said.after, said.frames.tolist(), strict=True)
    ]
    return [_samples(encode_wav(wave, domain.mels.rate)) for wave in waves]


def _samples(wav: bytes) -> tuple[int, NDArray[np.float64]]:
    samples, rate = soundfile.read(io.BytesIO(wav))
    return rate, samples


def _ranked(domain: Any, network: Any, batch: Mapping[str, Any]) -> Answers:
    found = network(batch["items"], batch["targets"], batch["lengths"], batch["seen"])
    own = domain.catalogue.items.own
    tops = [[own(item) for item in items] for items in found.top.tolist()]
    return list(zip(tops, found.scores.tolist(), strict=True))


def _predicted(domain: Any, network: Any, batch: Mapping[str, Any]) -> Answers:
    return [(None, score) for score in domain.outcomes(network, batch)["predicted"].tolist()]


@dataclass(frozen=True)
class Way:
    """How a task's records become requests, and what both ways make of them."""

    requests: Callable[[ModelSpec, Any, Any, Columns], Requests]
    """Rows, and the requests of the same records."""
    tensors: Callable[[Any, Any, Sequence[Columns]], Mapping[str, torch.Tensor]]
    """What the network is given in serving."""
    expected: Callable[[Any, Any, Mapping[str, Any]], Answers]
    """What the network of training says."""
    found: Callable[[Any], Answers]
    """The same of the answers."""


WAYS = {
    "text": Way(
        _of_contents("tokens"),
        _collated,
        _labelled,
        lambda answers: [(own[0][0]["label"], own[0][0]["score"]) for own in answers],
    ),
    "vision": Way(
        _of_contents("pixels"),
        _collated,
        _labelled,
        lambda answers: [(own[0]["label"], own[0]["score"]) for own in answers],
    ),
    "recognition": Way(
        _of_contents("audio"),
        _heard,
        _transcribed,
        lambda answers: [(own["text"], 0.0) for own in answers],
    ),
    "synthesis": Way(
        _of_sentences,
        _scripted,
        _spoken,
        lambda answers: [_samples(base64.b64decode(own["audio"])) for own in answers],
    ),
    "next-item": Way(
        _of_histories,
        _taken,
        _ranked,
        lambda answers: [
            ([one["item"] for one in own], [one["score"] for one in own]) for own in answers
        ],
    ),
    "rating": Way(
        _of_pairs,
        _rated,
        _predicted,
        lambda answers: [(None, own["score"]) for own in answers],
    ),
}

"""Image classification, for training and for serving.

Rows hold `pixels`, bytes [channels * size * size], and `label`, the number of its class.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from jobs.domains import Columns, Outcomes, classes
from jobs.domains.albums import find_sources
from jobs.domains.details import Detail, Shown
from jobs.domains.files import DataError
from jobs.domains.records import Bad, Record
from jobs.domains.records.preparation import LABELS
from jobs.domains.text.networks import save_network
from jobs.domains.vision import forests
from jobs.domains.vision.answering import ImageAnswers
from jobs.domains.vision.augmentation import erased, moved
from jobs.domains.vision.decoding import decode, encode_png, pixels_of
from jobs.domains.vision.networks import build, load_network, logits_of
from jobs.domains.vision.pictures import PREPROCESSOR, Pictures, enlargement
from jobs.domains.vision.preparation import PicturePreparation
from jobs.domains.vision.readers import partners

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


class Classification:
    """The domain object of an image classifier."""

    unit = "images"
    batched_by = None

    def __init__(self, model: ModelSpec, processor: Path, pretrained: Path | None = None) -> None:
        self.model = model
        self.processor = processor
        self.pretrained = pretrained
        self.pictures = Pictures.load(processor)
        if getattr(model.network, "type", None) == "resnet":
            enlarge = enlargement(self.pictures.size)
            self.pictures = replace(self.pictures, enlarge=enlarge)
        self.labels: list[str] = json.loads((processor / LABELS).read_text("utf-8"))

    def network(self) -> nn.Module:
        """A ResNet or a CNN as the spec says, freshly initialised, or the pretrained network."""
        return build(self.model, self.pictures, self.labels, self.pretrained)

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """{"pixel_values"} float32 [batch, channels, size, size], and "labels" int64 [batch]."""
        pixels = self.pictures.shaped(rows["pixels"])
        mask = None
        if seed is not None:
            random = np.random.default_rng(seed)
            pixels = moved(pixels, self.model.train.augment, random)
            mask = erased(pixels.shape, self.model.train.augment, random)
        values = self.pictures.normalised(pixels)
        if mask is not None:
            np.copyto(values, 0, where=mask)
        batch = {"pixel_values": torch.from_numpy(values)}
        if "label" in rows:
            batch["labels"] = torch.from_numpy(rows["label"].astype(np.int64))
        return batch

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy in nats per picture, scalar, fp32, with the spec's label smoothing."""
        smoothing = self.model.train.label_smoothing
        logits = logits_of(network, batch["pixel_values"], self.pictures)
        return functional.cross_entropy(logits, batch["labels"], label_smoothing=smoothing)

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each picture: label, predicted, nats, confidence, and the rank of its label."""
        logits = logits_of(network, batch["pixel_values"], self.pictures).cpu().numpy()
        labels = batch["labels"].cpu().numpy()
        found = classes.outcomes_of(logits, labels)
        return found | {"rank": classes.rank_of(logits, labels)}

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """accuracy, macro_f1, macro recall, top_5 and loss (nats)."""
        return classes.metrics_of(outcomes, len(self.labels))

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """The figures of each class, and the confusion matrix."""
        return classes.details_of(outcomes, self.labels)

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """Wrong predictions, the surest first."""
        return classes.worst_of(outcomes, count)

    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """The pictures as the network sees them, with label and prediction."""
        notes = classes.notes_of(outcomes, self.labels)
        pictures = self.pictures.shaped(rows["pixels"])
        return [
            Shown(png=encode_png(picture), note=note)
            for picture, note in zip(pictures, notes, strict=True)
        ]

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """Extremely randomised trees on pixels; also what the majority class gives."""
        labels, shares, majority = forests.predict(train, held_back, self.pictures, self.labels)
        metrics = self.metrics(classes.outcomes_of(np.log(shares), labels))
        constant = float((labels == majority).mean())
        return {"name": "trees on pixels", **metrics, "majority_accuracy": constant}

    def count(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["pixel_values"])

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Pictures and labels of any files; pictures in no use are left out.

        Raises DataError for a label that the model does not know.
        """
        preparation = PicturePreparation(self.model, self.pretrained)
        sources = find_sources(paths, preparation.suffixes)
        preparation.partners = partners(sources)
        held: list[Columns] = []
        for source in sources:
            for record in preparation.read(source):
                if isinstance(record, Bad):
                    continue
                held.append(self._row(record))
                if len(held) == rows_per_batch:
                    yield joined(held)
                    held = []
        if held:
            yield joined(held)

    def flops(self, network: nn.Module) -> float:
        """Those of a forward pass as torch counts them, and twice as many backward."""
        config: Any = network.config
        side, pictures = self.pictures.size, self.pictures
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            copy = type(network)(config)
            logits_of(copy, torch.empty(1, pictures.channels, side, side), pictures)
        return 3.0 * float(counter.get_total_flops())

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return load_network(str(folder))[0]

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """A folder for transformers' AutoImageProcessor and, but for the CNN, Auto classes."""
        save_network(network, state, self.processor, folder)
        self.pictures.save(folder)
        content = json.dumps(self.pictures.preprocessor(), indent=2) + "\n"
        (folder / PREPROCESSOR).write_text(content, "utf-8")

    def _row(self, record: Record) -> Columns:
        if record.label not in self.labels:
            known = ", ".join(self.labels[:20])
            raise DataError(f"{record.place}: label {record.label!r} is none of {known}")
        assert isinstance(record.content, bytes)
        size, channels = self.pictures.size, self.pictures.channels
        pixels = pixels_of(decode(record.content, size), size, channels)
        return {
            "pixels": pixels.reshape(1, -1),
            "label": np.asarray([self.labels.index(record.label)]),
        }


def joined(rows: Sequence[Columns]) -> Columns:
    """Batches of rows as one."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def open_domain(
    model: ModelSpec, processor: Path, pretrained: Path | None = None
) -> Classification:
    return Classification(model, processor, pretrained)


def load(folder: Path, device: str = "cpu") -> ImageAnswers:
    """A saved classifier for answering, in its saved precision."""
    network = load_network(str(folder))[0].to(device).eval()
    labels = json.loads((folder / LABELS).read_text("utf-8"))
    return ImageAnswers(network, Pictures.load(folder), labels)

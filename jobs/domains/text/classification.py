"""Text classification: an encoder with a head, for training and for serving.

Rows hold `tokens`, of different lengths, with the vocabulary's marks around each text, and
`label`, the number of its class.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from jobs.domains import Columns, Outcomes, classes
from jobs.domains.details import Detail, Shown
from jobs.domains.files import DataError, find_sources
from jobs.domains.records import Bad, Record
from jobs.domains.records.preparation import LABELS
from jobs.domains.text import bags
from jobs.domains.text.classification_answers import ClassificationAnswers
from jobs.domains.text.classification_preparation import ClassificationPreparation
from jobs.domains.text.encoders import build_classifier, load_classifier
from jobs.domains.text.networks import save_network
from jobs.domains.text.padding import encoded, joined_rows, padded
from jobs.domains.text.pretrained import context_of, kept_context
from jobs.domains.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


class Classification:
    """The domain object of a text classifier."""

    unit = "tokens"
    batched_by = None

    def __init__(self, model: ModelSpec, processor: Path, pretrained: Path | None = None) -> None:
        self.model = model
        self.processor = processor
        self.pretrained = pretrained
        self.vocabulary = Vocabulary(processor)
        self.labels: list[str] = json.loads((processor / LABELS).read_text("utf-8"))

    def network(self) -> nn.Module:
        """BERT or an LSTM as the spec says, freshly initialised, or the pretrained network."""
        return build_classifier(
            self.model, self.vocabulary, self.labels, self.pretrained, self.processor
        )

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """{"input_ids", "attention_mask"} [batch, longest of it] and "labels" [batch], int64."""
        batch = padded(rows, self.vocabulary.padding)
        if "label" in rows:
            batch["labels"] = torch.from_numpy(rows["label"].astype(np.int64))
        return batch

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy in nats per record, scalar, fp32, with the spec's label smoothing.

        Of a network of several parts the mean of theirs, so that each learns by itself.
        """
        output = _output(network, batch)
        parts = getattr(output, "parts", None)
        parts = output.logits[None] if parts is None else parts
        return functional.cross_entropy(
            parts.flatten(0, 1).float(),
            batch["labels"].repeat(len(parts)),
            label_smoothing=self.model.train.label_smoothing,
        )

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each record: label, predicted, nats and confidence."""
        logits = _output(network, batch).logits.float().cpu().numpy()
        return classes.outcomes_of(logits, batch["labels"].cpu().numpy())

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """macro_f1, accuracy, macro recall and loss (nats)."""
        return classes.metrics_of(outcomes, len(self.labels))

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """The figures of each class, and the confusion matrix."""
        return classes.details_of(outcomes, self.labels)

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """Wrong predictions, the surest first."""
        return classes.worst_of(outcomes, count)

    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """The texts as the network reads them, with label and prediction."""
        pairs = zip(rows["tokens"], rows["tokens_length"], strict=True)
        texts = [self.vocabulary.decode(tokens[:length].tolist()) for tokens, length in pairs]
        notes = classes.notes_of(outcomes, self.labels)
        return [Shown(text, note=note) for text, note in zip(texts, notes, strict=True)]

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """Logistic regression on TF-IDF of tokens and pairs; also what the majority class gives."""
        labels, shares, majority = bags.predict(train, held_back, len(self.labels))
        metrics = self.metrics(classes.outcomes_of(np.log(shares), labels))
        constant = float((labels == majority).mean())
        name = "TF-IDF and logistic regression"
        return {"name": name, **metrics, "majority_accuracy": constant}

    def count(self, batch: Mapping[str, Tensor]) -> int:
        return int(batch["attention_mask"].sum())

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Texts and labels of any tables; records in no use are left out.

        Raises DataError for a label that the model does not know.
        """
        preparation = ClassificationPreparation(self.model, self.pretrained)
        held: list[Columns] = []
        for source in find_sources(paths, preparation.suffixes):
            for record in preparation.read(source):
                if isinstance(record, Bad):
                    continue
                held.append(self._row(record))
                if len(held) == rows_per_batch:
                    yield joined_rows(held)
                    held = []
        if held:
            yield joined_rows(held)

    def flops(self, network: nn.Module) -> float:
        """6 per parameter: forward 2, backward 4 (Kaplan et al., 2020)."""
        return 6.0 * sum(getattr(p, "ds_numel", p.numel()) for p in network.parameters())

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return load_classifier(str(folder))[0]

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """A folder for `AutoTokenizer` and, but for the LSTM, transformers' Auto classes."""
        save_network(network, state, self.processor, folder)

    def _row(self, record: Record) -> Columns:
        if record.label not in self.labels:
            known = ", ".join(self.labels[:20])
            raise DataError(f"{record.place}: label {record.label!r} is none of {known}")
        context = context_of(self.model.network, self.pretrained)
        row = encoded(self.vocabulary, str(record.content), context)
        return row | {"label": np.asarray([self.labels.index(record.label)])}


def _output(network: nn.Module, batch: Mapping[str, Tensor]) -> Any:
    return network(**{name: batch[name] for name in ("input_ids", "attention_mask")})


def open_domain(
    model: ModelSpec, processor: Path, pretrained: Path | None = None
) -> Classification:
    return Classification(model, processor, pretrained)


def load(folder: Path, device: str = "cpu") -> ClassificationAnswers:
    """A saved classifier for answering, in its saved precision."""
    network = load_classifier(str(folder))[0].to(device).eval()
    labels = json.loads((folder / LABELS).read_text("utf-8"))
    return ClassificationAnswers(network, Vocabulary(folder), labels, kept_context(folder))

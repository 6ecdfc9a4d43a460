"""Predicting the next item that a user takes, for training and for serving.

Rows hold `user`, `items` (a history, the oldest first) and `target`; see `next_item_preparation`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jobs.domains import Columns, Outcomes
from jobs.domains.details import Detail, Shown
from jobs.domains.recommendation import ranking
from jobs.domains.recommendation.answering import NextItemAnswers
from jobs.domains.recommendation.catalogue import CONFIG, Catalogue
from jobs.domains.recommendation.neighbours import baselines
from jobs.domains.recommendation.networks import NextItemNetwork, SASRec, Shape, shape_of
from jobs.domains.recommendation.reading import histories
from jobs.domains.recommendation.towers import TwoTower, features_of

if TYPE_CHECKING:
    from cluster.spec import ModelSpec

WEIGHTS = "model.safetensors"
LEARN = 0
"""The target of rows in which each item is predicted from those before it."""


class NextItem:
    """The domain object of a recommender of next items."""

    unit = "items"
    labels = None
    batched_by = None

    def __init__(self, model: ModelSpec, processor: Path) -> None:
        self.model = model
        self.processor = processor
        self.catalogue = Catalogue(processor)

    def network(self) -> nn.Module:
        """SASRec or two towers as the spec says, freshly initialised."""
        return build(self.shape, self.catalogue, self._features[0])

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """{"items", "targets" [batch, time], "lengths" [batch], "seen" [batch, many], "next"}.

        Items are the newest of a history that the network knows, at most its context; targets are
        what came next at each place, 0 where that is unknown. `next` [batch] is the row's target.
        """
        return collated(rows, self.shape)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross entropy in nats over all items, or over samples of them; scalar, fp32."""
        found: Tensor = network(batch["items"], batch["targets"], batch["lengths"])
        return found

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each record: rank, nats, target, top [batch, 10], the recent items and their number.

        Ranks are among all items that the network scores, the seen ones left out.
        """
        found = network(batch["items"], batch["targets"], batch["lengths"], batch["seen"])
        num = len(batch["items"])
        seen = batch["seen"]
        sizes = (seen > 0).sum(1)
        places = sizes[:, None] - torch.arange(1, ranking.RECENT + 1, device=seen.device)[None]
        recent = seen.gather(1, places.clamp(min=0)) * (places >= 0) if seen.shape[1] else places
        columns = {
            "rank": found.rank,
            "nats": found.nats,
            "target": batch["next"],
            "top": found.top,
            "recent": recent.flip(1),
            "length": sizes,
        }
        assert all(len(values) == num for values in columns.values())
        return {name: values.cpu().numpy() for name, values in columns.items()}

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """ndcg@10, hr@10, mrr, coverage and loss; never against samples."""
        return ranking.metrics_of(outcomes, self.shape.num_items)

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """Figures by popularity and by length of history; users and their recommendations."""
        return ranking.details_of(outcomes, self.catalogue)

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """The records whose item was ranked lowest."""
        return ranking.worst_of(outcomes, count)

    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """History, recommendations and what was taken next."""
        return ranking.show(outcomes, np.arange(len(outcomes["rank"])), self.catalogue)

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """Item neighbours, and what is popular, on the same records."""
        return baselines(train, held_back, self.catalogue.items.num_trained)

    def count(self, batch: Mapping[str, Tensor]) -> int:
        return int((batch["targets"] > 0).sum())

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Each event of any files after its user's history: the stored one, then the files'."""
        return histories(paths, self.model.data, self.catalogue, rows_per_batch)

    def flops(self, network: nn.Module) -> float:
        """6 per weight that is used at each place; vectors of all items are, at their end."""
        tables = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
        used = [p for p in network.parameters() if id(p) not in tables]
        sizes = [getattr(p, "ds_numel", p.numel()) for p in used]
        return float(6 * (sum(sizes) + self.shape.num_items * self.shape.width))

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return restored(folder, self.catalogue)

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """config.json, model.safetensors and the catalogue with all histories, into `folder`."""
        save_folder(self.shape.dump(), state, self.processor, folder)

    @cached_property
    def shape(self) -> Shape:
        items = self.catalogue.items
        return shape_of(self.model.network, len(items), items.num_trained, self._features[1])

    @cached_property
    def _features(self) -> tuple[NDArray[np.int32], int]:
        return features_of(self.catalogue)


def collated(rows: Mapping[str, NDArray[Any]], shape: Shape) -> dict[str, Tensor]:
    """See `NextItem.collate`."""
    inputs, targets, seen = [], [], []
    wanted = rows["target"].astype(np.int64)
    for own, length, target in zip(rows["items"], rows["items_length"], wanted, strict=True):
        taken = own[:length].astype(np.int64)
        known = taken[(taken > 0) & (taken <= shape.num_items)]
        if target == LEARN:
            given, next_items = known[:-1][-shape.context :], known[1:][-shape.context :]
        else:
            given = known[-shape.context :]
            next_items = np.zeros(max(1, len(given)), np.int64)
            next_items[-1] = max(0, target)
        inputs.append(given)
        targets.append(next_items)
        seen.append(known)
    width = max(map(len, targets), default=1)
    return {
        "items": _padded(inputs, width),
        "targets": _padded(targets, width),
        "lengths": torch.tensor([max(1, len(given)) for given in inputs]),
        "seen": _padded(seen, max(1, *map(len, seen))),
        "next": torch.from_numpy(np.maximum(wanted, 0)),
    }


def build(shape: Shape, catalogue: Catalogue, features: NDArray[np.int32]) -> NextItemNetwork:
    """A fresh network of this shape."""
    if shape.type == "sasrec":
        return SASRec(shape, catalogue.counts)
    return TwoTower(shape, catalogue.counts, features)


def restored(folder: Path, catalogue: Catalogue) -> NextItemNetwork:
    """What `save_folder` wrote."""
    shape = Shape(**json.loads((folder / CONFIG).read_text("utf-8")))
    state = load_file(folder / WEIGHTS)
    with torch.random.fork_rng(devices=[]):
        network = build(shape, catalogue, features_of(catalogue)[0])
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.to(next(iter(state.values())).dtype)
    for name, buffer in kept.items():
        network.get_buffer(name).data = buffer
    network.load_state_dict(state)
    return network


def save_folder(
    config: Mapping[str, Any], state: Mapping[str, Tensor], processor: Path, folder: Path
) -> None:
    """Sizes, weights and the processor's files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(kept, folder / WEIGHTS, metadata={"format": "pt"})
    for file in sorted(processor.iterdir()):
        shutil.copyfile(file, folder / file.name)


def _padded(lists: Sequence[NDArray[np.int64]], width: int) -> Tensor:
    filled = np.zeros((len(lists), width), np.int64)
    for own, into in zip(lists, filled, strict=True):
        into[: len(own)] = own
    return torch.from_numpy(filled)


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> NextItem:
    return NextItem(model, processor)


def load(folder: Path, device: str = "cpu") -> NextItemAnswers:
    """A saved network for answering, in its saved precision, with its item vectors ready."""
    catalogue = Catalogue(folder)
    network = restored(folder, catalogue).to(device).eval()
    return NextItemAnswers(network, catalogue, lambda rows: collated(rows, network.shape))

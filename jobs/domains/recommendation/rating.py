"""Predicting how a user rates an item, for training and for serving.

Rows hold `user`, `item` and `rating`; see `rating_preparation`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from jobs.domains import Columns, Outcomes
from jobs.domains.details import Detail, Shown, Table
from jobs.domains.recommendation.answering import RatingAnswers
from jobs.domains.recommendation.biases import fit_biases
from jobs.domains.recommendation.catalogue import CONFIG, Catalogue
from jobs.domains.recommendation.factors import FactorShape, MatrixFactorisation, parse_factors
from jobs.domains.recommendation.next_item import WEIGHTS, save_folder
from jobs.domains.recommendation.reading import ratings

if TYPE_CHECKING:
    from cluster.spec import ModelSpec


INPUTS = ("users", "items", "recent", "recent_ratings")
"""What the network takes of a batch, in its order."""


class Rating:
    """The domain object of a recommender of ratings."""

    unit = "ratings"
    labels = None
    batched_by = None

    def __init__(self, model: ModelSpec, processor: Path) -> None:
        self.model = model
        self.processor = processor
        self.catalogue = Catalogue(processor)
        self.scale: tuple[float, float] = tuple(self.catalogue.about["scale"])

    def network(self) -> nn.Module:
        """Matrix factorisation, freshly initialised."""
        return MatrixFactorisation(self.shape)

    def collate(
        self, rows: Mapping[str, NDArray[Any]], seed: int | None = None
    ) -> dict[str, Tensor]:
        """{"users", "items"} by number, int64 [batch], "ratings", fp32 [batch], and what the users
        rated before: "recent" int64 and "recent_ratings" fp32 [batch, many], NaN where nothing."""
        return collated(rows)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error, and the penalty on large weights; scalar, fp32."""
        predicted, penalty = network(*(batch[name] for name in INPUTS))
        loss: Tensor = functional.mse_loss(predicted.float(), batch["ratings"]) + penalty
        return loss

    def outcomes(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Outcomes:
        """Of each record its user and item by number, its rating, and the predicted one."""
        predicted = network(*(batch[name] for name in INPUTS))[0].float().clamp(*self.scale)
        columns = {
            "user": batch["users"],
            "item": batch["items"],
            "rating": batch["ratings"].double(),
            "predicted": predicted.double(),
        }
        return {name: values.cpu().numpy() for name, values in columns.items()}

    def metrics(self, outcomes: Outcomes) -> dict[str, float]:
        """rmse, mae, and loss, which is the mean squared error."""
        return metrics_of(outcomes["rating"], outcomes["predicted"])

    def details(self, outcomes: Outcomes) -> list[Detail]:
        """Error by the rating that was given."""
        rows = []
        for value in np.unique(outcomes["rating"])[:20].tolist():
            own = outcomes["rating"] == value
            predicted = outcomes["predicted"][own]
            error = float(np.sqrt(np.mean((predicted - value) ** 2)))
            rows.append((f"{value:g}", int(own.sum()), float(predicted.mean()), error))
        columns = ["rating", "records", "mean prediction", "rmse"]
        return [Table("By the rating that was given", columns, rows)]

    def worst(self, outcomes: Outcomes, count: int) -> NDArray[np.int64]:
        """The records with the largest error."""
        errors = np.abs(outcomes["rating"] - outcomes["predicted"])
        return np.argsort(-errors, kind="stable")[:count]

    def show(self, rows: Columns, outcomes: Outcomes) -> list[Shown]:
        """Who rated what, and what was predicted."""
        names = self.catalogue.users
        return [
            Shown(
                f"user {names.own(user) if user else 'unknown'}: {self.catalogue.title(item)}",
                note=f"gave {rating:g}, predicted {predicted:.1f}",
            )
            for user, item, rating, predicted in zip(
                *(outcomes[n].tolist() for n in ("user", "item", "rating", "predicted")),
                strict=True,
            )
        ]

    def baseline(
        self,
        train: Iterable[Mapping[str, NDArray[Any]]],
        held_back: Iterable[Mapping[str, NDArray[Any]]],
    ) -> dict[str, Any]:
        """Mean and regularised biases of users and items."""
        known = _joined(train)
        biases = fit_biases(known["user"], known["item"], known["rating"], *self._sizes)
        wanted = _joined(held_back)
        predicted = biases.predict(wanted["user"], wanted["item"]).clip(*self.scale)
        return {"name": "biases alone", **metrics_of(wanted["rating"], predicted)}

    def count(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["ratings"])

    def read(self, paths: Sequence[str], rows_per_batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Any files as batches of rows."""
        many = self.shape.recent
        return ratings(paths, self.model.data, self.catalogue, many, rows_per_batch)

    def flops(self, network: nn.Module) -> float:
        """6 per factor: a product of two vectors, forward and backward."""
        return float(6 * self.shape.width)

    def restore(self, folder: Path) -> nn.Module:
        """The network that `save` wrote, in its saved precision."""
        return restored(folder)

    def save(self, network: nn.Module, state: Mapping[str, Tensor], folder: Path) -> None:
        """config.json, model.safetensors and the catalogue, into `folder`."""
        save_folder(self.shape.dump(), state, self.processor, folder)

    @cached_property
    def shape(self) -> FactorShape:
        network: Any = self.model.network
        about = self.catalogue.about
        own = (network.width, network.dropout, network.recent, network.damping)
        return FactorShape(*self._sizes, *own, about["mean"], about["ratings"])

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.catalogue.users.num_trained, self.catalogue.items.num_trained


def collated(rows: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """See `Rating.collate`. An item tells nothing of its own rating."""
    recent = rows["recent"].astype(np.int64)
    places = np.arange(recent.shape[1])[None]
    known = places < rows["recent_length"][:, None]
    known &= (recent != rows["item"][:, None]) | (recent == 0)
    given = np.where(known, rows["recent_ratings"], np.nan).astype(np.float32)
    return {
        "users": torch.from_numpy(rows["user"].astype(np.int64)),
        "items": torch.from_numpy(rows["item"].astype(np.int64)),
        "ratings": torch.from_numpy(rows["rating"].astype(np.float32)),
        "recent": torch.from_numpy(recent),
        "recent_ratings": torch.from_numpy(given),
    }


def metrics_of(given: NDArray[Any], predicted: NDArray[Any]) -> dict[str, float]:
    """rmse, mae and loss; ValueError where there is no record."""
    if not len(given):
        raise ValueError("there is no rating to score")
    errors = given.astype(np.float64) - predicted
    square = float(np.mean(errors**2))
    return {"rmse": square**0.5, "mae": float(np.abs(errors).mean()), "loss": square}


def restored(folder: Path) -> MatrixFactorisation:
    """The network of a folder, in its saved precision."""
    shape = parse_factors(json.loads((folder / CONFIG).read_text("utf-8")))
    state = load_file(folder / WEIGHTS)
    with torch.random.fork_rng(devices=[]):
        network = MatrixFactorisation(shape)
    network.to(next(iter(state.values())).dtype).load_state_dict(state)
    return network


def _joined(batches: Iterable[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    parts = [dict(rows) for rows in batches]
    names = ("user", "item", "rating")
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def open_domain(model: ModelSpec, processor: Path, pretrained: Path | None = None) -> Rating:
    return Rating(model, processor)


def load(folder: Path, device: str = "cpu") -> RatingAnswers:
    """A saved network for answering, in its saved precision."""
    return RatingAnswers(restored(folder).to(device).eval(), Catalogue(folder), collated)

"""Requests to recommendations and ratings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.domains import Columns
from jobs.domains.recommendation.catalogue import Catalogue
from jobs.domains.recommendation.networks import leave_out
from jobs.domains.recommendation.reading import recent_of
from jobs.domains.tracing import Forward, traced

if TYPE_CHECKING:
    from jobs.domains.recommendation.factors import MatrixFactorisation
    from jobs.domains.recommendation.networks import NextItemNetwork

TOP_K = 10
MOST_K = 1000
UNKNOWN = -1
"""The target of a row in which what comes next is to be said."""


class NextItemAnswers:
    """Recommends to known users and to any history; item vectors are computed once."""

    def __init__(
        self,
        network: NextItemNetwork,
        catalogue: Catalogue,
        collate: Callable[[Mapping[str, NDArray[Any]]], dict[str, Tensor]],
    ) -> None:
        self.network, self.catalogue, self.collate = network, catalogue, collate
        with torch.inference_mode():
            vectors, offsets = network.vectors()
            self.vectors, self.offsets = vectors.float().T.contiguous(), offsets.float()
        self._states: Forward = network.states

    def settle(self) -> None:
        """Make ready for many requests: the network runs as a recorded graph on a processor."""
        if self.vectors.device.type == "cpu":
            most, known = self.network.shape.context, self.network.shape.num_items
            shapes = [(n, min(m, most)) for n, m in ((3, 2), (1, 1), (2, most), (16, 5))]
            examples = [(torch.arange(n * m).view(n, m) % known + 1,) for n, m in shapes]
            self._states = traced(self.network, self.network.states, examples)

    def row(self, request: Mapping[str, Any]) -> Columns:
        """{"inputs": {"user": ID} or {"history": [ID, ...]}} as one row.

        ValueError names what is unknown, with what is near.
        """
        top_k_of(request)
        given = inputs_of(request, ("user", "history"))
        if ("user" in given) == ("history" in given):
            raise ValueError('"inputs" must hold either "user" or "history"')
        user, items = 0, []
        if "user" in given:
            user = self.catalogue.users.find(given["user"])
            items = self.catalogue.taken(user).tolist()
        else:
            items = self._history(given["history"])
        return {
            "user": np.asarray([user], np.int32),
            "items": np.asarray([items], np.int32),
            "items_length": np.asarray([len(items)], np.int64),
            "target": np.asarray([UNKNOWN], np.int32),
        }

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[list[dict[str, Any]]]:
        """Per request its best items, [{"item", "score"}], the seen ones left out."""
        device = self.vectors.device
        batch = {
            name: values.to(device)
            for name, values in self.collate(joined_rows(rows, ("items",))).items()
        }
        states = self._states(batch["items"])
        last = states[torch.arange(len(states)), batch["lengths"] - 1].float()
        scores = leave_out(torch.addmm(self.offsets, last, self.vectors), batch["seen"])
        wanted = [top_k_of(request) for request in requests]
        top = scores.topk(min(max(wanted), scores.shape[1]), 1)
        return [
            self._items(values[:many], places[:many])
            for many, values, places in zip(
                wanted, top.values.tolist(), top.indices.tolist(), strict=True
            )
        ]

    def answer(self, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.answers([self.row(request)], [request])[0]

    def _history(self, given: Any) -> list[int]:
        if not isinstance(given, list) or not given:
            raise ValueError('"history" must be a list of items, the oldest first')
        items = [self.catalogue.items.find(item) for item in given]
        for item, number in zip(given, items, strict=True):
            if number > self.network.shape.num_items:
                raise ValueError(
                    f"item {item!r} was never taken in training, so this network knows nothing "
                    "of it; leave it out (a two-tower network would know its title)"
                )
        # As in training, where an item counts once, when it was first taken.
        return list(dict.fromkeys(items))

    def _items(self, scores: list[float], places: list[int]) -> list[dict[str, Any]]:
        return [
            {"item": self.catalogue.items.own(place + 1), "score": score}
            for score, place in zip(scores, places, strict=True)
            if score > float("-inf")
        ]


class RatingAnswers:
    """Says how a user would rate an item."""

    def __init__(
        self,
        network: MatrixFactorisation,
        catalogue: Catalogue,
        collate: Callable[[Mapping[str, NDArray[Any]]], dict[str, Tensor]],
    ) -> None:
        self.network, self.catalogue, self.collate = network, catalogue, collate

    def row(self, request: Mapping[str, Any]) -> Columns:
        """{"inputs": {"user": ID, "item": ID}} as one row; ValueError for what is unknown."""
        given = inputs_of(request, ("user", "item"))
        names = {"user": self.catalogue.users, "item": self.catalogue.items}
        numbers = {}
        for role, known in names.items():
            if role not in given:
                raise ValueError(f'"inputs" must hold "{role}"')
            numbers[role] = known.find(given[role])
            if numbers[role] > known.num_trained:
                raise ValueError(f"{role} {given[role]!r} has no rating in training")
        return {
            **{role: np.asarray([number], np.int32) for role, number in numbers.items()},
            "rating": np.zeros(1, np.float32),
            **recent_of(self.catalogue, [numbers["user"]], self.network.shape.recent),
        }

    @torch.inference_mode()
    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """{"score": rating} each, within the scale of training."""
        device = next(self.network.parameters()).device
        batch = self.collate(joined_rows(rows, ("recent", "recent_ratings")))
        names = ("users", "items", "recent", "recent_ratings")
        scores = self.network(*(batch[name].to(device) for name in names))[0].float()
        low, high = self.catalogue.about["scale"]
        return [{"score": score} for score in scores.clamp(low, high).tolist()]

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self.answers([self.row(request)], [request])[0]


def inputs_of(request: Mapping[str, Any], known: Sequence[str]) -> Mapping[str, Any]:
    """The request's "inputs", a mapping of known keys."""
    given = request.get("inputs")
    keys = " and ".join(f'"{name}"' for name in known)
    if not isinstance(given, Mapping):
        raise ValueError(f'"inputs" must be a mapping with {keys}')
    for name in given:
        if name not in known:
            raise ValueError(f'"inputs" has an unknown key "{name}"; known: {keys}')
    return given


def top_k_of(request: Mapping[str, Any]) -> int:
    """How many items are asked for."""
    given = request.get("parameters") or {}
    if not isinstance(given, Mapping):
        raise ValueError('"parameters" must be a mapping')
    for name in given:
        if name != "top_k":
            raise ValueError(f'unknown parameter "{name}"; known: top_k')
    top_k = given.get("top_k", TOP_K)
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= MOST_K:
        raise ValueError(f"top_k must be 1 to {MOST_K}, not {top_k!r}")
    return top_k


def joined_rows(rows: Sequence[Columns], lists: Sequence[str]) -> Columns:
    """Several rows as one batch, columns that are `lists` filled up with 0 to the longest."""
    joined = {}
    for name in rows[0]:
        parts = [row[name] for row in rows]
        if name in lists:
            longest = max(part.shape[1] for part in parts)
            parts = [np.pad(p, ((0, 0), (0, longest - p.shape[1]))) for p in parts]
        joined[name] = np.concatenate(parts)
    return joined

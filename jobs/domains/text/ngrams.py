"""What a bag of words knows, inside a network: which n-grams of tokens and characters a text has.

A text is the set of its n-grams, weighted by how rare they are in the training texts and scaled to
length 1 (TF-IDF), with a vector of weights for each n-gram. That is the wide part of a wide and
deep network (Cheng et al., 2016, arXiv 1606.07792). A weight counts, and is learned, by how much
its n-gram told of the class in the training texts, after the naive Bayes features of Wang and
Manning (2012, ACL P12-2018). N-grams are known by a hash of 64 bits; the rarest of very many are
left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jobs.domains.text.padding import joined_rows, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from jobs.domains.text.vocabulary import Ids, Vocabulary

    Labelled = tuple[Ids, int]

TABLE = "ngrams.safetensors"
MOST = 1 << 17
"""So many n-grams are kept, those of most texts. Those of a single text do help, where there is
room for them: what is said of that text alone then spares the others."""
MOST_RECORDS = 50_000
"""More records teach little about which n-grams there are."""
OF_TOKENS, OF_CHARACTERS = (1, 2), (2, 3, 4, 5, 6)
LONGEST = 16
"""Characters of a token that count."""
RECORDS_AT_ONCE = 256
MOST_HELD = 1 << 22
WIDEST = 64
"""With more classes, n-grams have vectors of this size and a matrix from them to the classes."""
SCALE = 2.0
"""How far a weight moves the logits: texts have length 1, and weights begin at 0."""
LEAST_EVIDENCE = 0.3
"""Of an n-gram as frequent in one class as in the others, in nats."""
UNIT = 1024
"""What stands for an evidence of 1, the mean."""


class Hashes(nn.Module):
    """From tokens to the hashes of their n-grams."""

    spelling: Tensor

    def __init__(self, num_tokens: int, longest: int) -> None:
        """`spelling` [tokens, characters] holds code points, filled up with 0."""
        super().__init__()
        self.register_buffer("spelling", torch.zeros(num_tokens, longest, dtype=torch.int32))

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """[batch, time] to [batch, n-grams], each hash once and 0 elsewhere."""
        tokens = torch.where(mask > 0, input_ids + 1, 0)
        characters = _packed(self.spelling[input_ids].long() * mask[..., None])
        found = [_hashed(tokens, size, 0) for size in OF_TOKENS]
        found += [_hashed(characters, size, 1) for size in OF_CHARACTERS]
        hashes = torch.cat(found, 1).sort(1).values
        again = torch.zeros_like(hashes, dtype=torch.bool)
        again[:, 1:] = hashes[:, 1:] == hashes[:, :-1]
        return hashes.masked_fill(again, 0)


class Bag(nn.Module):
    """Logits from the n-grams of a text. N-grams that training had not seen say nothing."""

    known: Tensor
    documents: Tensor
    evidence: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.hashes = Hashes(config.vocab_size, config.longest_token)
        # Whole numbers stay exact in any precision and whoever averages a network's buffers.
        self.register_buffer("known", torch.zeros(config.num_ngrams, dtype=torch.int64))
        self.register_buffer("documents", torch.zeros(config.num_ngrams, dtype=torch.int32))
        self.num_documents = config.num_documents
        width = min(config.num_labels, WIDEST)
        shape = (config.num_ngrams, config.num_labels if width == config.num_labels else 1)
        self.register_buffer("evidence", torch.full(shape, UNIT, dtype=torch.int32))
        self.weights = nn.Embedding(config.num_ngrams, width)
        self.head: nn.Module = nn.Identity()
        if width < config.num_labels:
            self.head = nn.Linear(width, config.num_labels, bias=False)

    def load(self, table: dict[str, Tensor]) -> None:
        """Take over what `learn_ngrams` found."""
        self.hashes.spelling.copy_(table["spelling"])
        self.known.copy_(table["known"])
        self.documents.copy_(table["documents"])
        self.evidence.copy_(table["evidence"])

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """[batch, time] to [batch, classes], in fp32."""
        hashes = self.hashes(input_ids, mask)
        places = torch.searchsorted(self.known, hashes).clamp(max=len(self.known) - 1)
        seen = (self.known[places] == hashes) & (hashes != 0)
        rarity = torch.log((1 + self.num_documents) / (1 + self.documents[places].float())) + 1
        weights = rarity * seen
        weights = weights / weights.square().sum(1, keepdim=True).clamp(min=1e-6).sqrt()
        evidence = self.evidence[places].float() / UNIT
        summed = (self.weights(places).float() * evidence * weights[..., None]).sum(1)
        logits: Tensor = self.head((SCALE * summed).to(self.weights.weight.dtype))
        return logits.float()


@torch.inference_mode()
def learn_ngrams(
    vocabulary: Vocabulary, texts: Callable[[], Iterable[Labelled]], num_classes: int, folder: Path
) -> None:
    """Find the n-grams of training texts and what they tell of classes; write it into `folder`.

    `texts` gives them anew at each call, each as its tokens and the number of its class.
    """
    table = spellings(vocabulary)
    hashes = Hashes(*table.shape)
    hashes.spelling.copy_(table)
    known, counts, num_documents = np.empty(0, np.int64), np.empty(0, np.int64), 0
    for found, _ in _found(hashes, vocabulary.padding, texts()):
        known, counts = _merged(known, counts, found[found != 0])
        num_documents += len(found)
    kept = np.sort(_most_frequent(counts, MOST))
    known, counts = known[kept], counts[kept]
    evidence = np.ones((known.size, 1))
    if num_classes <= WIDEST:
        by_class = np.zeros((known.size, num_classes))
        for found, labels in _found(hashes, vocabulary.padding, texts()):
            places = np.searchsorted(known, found).clip(max=max(0, known.size - 1))
            rows, columns = np.nonzero((found != 0) & (known[places] == found))
            np.add.at(by_class, (places[rows, columns], labels[rows]), 1)
        evidence = _evidence(by_class)
    learned = {
        "spelling": table,
        "known": torch.from_numpy(known),
        "documents": torch.from_numpy(counts.astype(np.int32)),
        "evidence": torch.from_numpy(np.rint(UNIT * evidence).astype(np.int32)),
        "num_documents": torch.tensor([num_documents]),
    }
    save_file(learned, folder / TABLE)


def load_ngrams(folder: Path) -> dict[str, Tensor]:
    """What `learn_ngrams` wrote: spelling, known, documents, evidence, num_documents."""
    return dict(load_file(folder / TABLE))


def spellings(vocabulary: Vocabulary) -> Tensor:
    """Code points of each token, [tokens, characters], filled up with 0."""
    texts = [vocabulary.spell(i).lower()[:LONGEST] for i in range(vocabulary.size)]
    table = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int32)
    for row, text in zip(table, texts, strict=True):
        row[: len(text)] = torch.tensor([ord(character) for character in text])
    return table


def _packed(characters: Tensor) -> Tensor:
    """[batch, time, characters] to [batch, longest]: one row a text without the zeros between."""
    rows = characters.flatten(1)
    there = rows > 0
    places = there.cumsum(1) - 1
    longest = max(1, int(there.sum(1).max()))
    packed = rows.new_zeros(len(rows), longest + 1)
    packed.scatter_(1, torch.where(there, places, longest), rows)
    return packed[:, :longest]


def _hashed(values: Tensor, size: int, kind: int) -> Tensor:
    """[batch, time] of numbers, 0 for none, to [batch, time - size + 1] of hashes, 0 for none."""
    count = max(0, values.shape[1] - size + 1)
    mixed = values.new_full((len(values), count), 2 * size + kind)
    there = torch.ones_like(mixed, dtype=torch.bool)
    for i in range(size):
        part = values[:, i : i + count]
        mixed = _mix(mixed * 1_000_003 + part)
        there &= part > 0
    return torch.where(there, mixed, 0)


def _mix(words: Tensor) -> Tensor:
    """The finaliser of MurmurHash3 but for signed shifts; wraps at 64 bits."""
    words = (words ^ (words >> 33)) * -0x00AE502812AA7333
    words = (words ^ (words >> 33)) * -0x3B314601E57A13AD
    return words ^ (words >> 33)


def _found(
    hashes: Hashes, padding: int, texts: Iterable[Labelled]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(hashes [texts, n-grams], 0 for none, and classes [texts]) of a part of the texts each."""
    wanted = islice(texts, MOST_RECORDS)
    while held := list(islice(wanted, RECORDS_AT_ONCE)):
        rows = [{"tokens": t[None], "tokens_length": np.asarray([t.size])} for t, _ in held]
        batch = padded(joined_rows(rows), padding)
        found = hashes(batch["input_ids"], batch["attention_mask"]).numpy()
        yield found, np.asarray([label for _, label in held])


def _evidence(by_class: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much each n-gram tells of each class, 1 at the mean; of texts with it, by class."""
    there = 1 + by_class
    elsewhere = 1 + by_class.sum(1, keepdims=True) - by_class
    ratio = np.log(there / there.sum(0)) - np.log(elsewhere / elsewhere.sum(0))
    told: NDArray[np.float64] = LEAST_EVIDENCE + np.abs(ratio)
    shares: NDArray[np.float64] = told / told.mean()
    return shares


def _merged(known: Any, counts: Any, found: Any) -> tuple[Any, Any]:
    """Hashes in order and how many texts have each, with those of further texts."""
    new, times = np.unique(found, return_counts=True)
    joined, places = np.unique(np.concatenate([known, new]), return_inverse=True)
    totals = np.bincount(places, np.concatenate([counts, times]), joined.size).astype(np.int64)
    if joined.size > MOST_HELD:  # of very many texts, n-grams that are rare so far start again
        kept = np.sort(_most_frequent(totals, MOST_HELD // 2))
        return joined[kept], totals[kept]
    return joined, totals


def _most_frequent(counts: Any, most: int) -> Any:
    """Places of the highest counts, at most so many."""
    order = np.argsort(-counts, kind="stable")
    return order[:most]

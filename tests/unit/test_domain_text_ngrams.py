from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs.domains.text import ngrams
from jobs.domains.text.lstm import LSTMConfig
from jobs.domains.text.ngrams import Bag, Hashes, learn_ngrams, load_ngrams, spellings
from jobs.domains.text.padding import joined_rows, padded
from jobs.domains.text.vocabulary import Vocabulary, train_bpe, train_characters, train_wordpiece

TEXTS = ["the cat sat", "the cats sit", "a dog barked", "Dogs bark 中文很好", "中文不好"]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Vocabulary:
    return train_wordpiece(TEXTS, 90, tmp_path)


def batch_of(vocabulary: Vocabulary, texts: list[str]) -> dict[str, Tensor]:
    rows: list[Any] = [vocabulary.encode_framed(text, 32) for text in texts]
    held = [{"tokens": ids[None], "tokens_length": np.asarray([ids.size])} for ids in rows]
    return padded(joined_rows(held), vocabulary.padding)


def hashes_of(vocabulary: Vocabulary, texts: list[str]) -> list[set[int]]:
    table = spellings(vocabulary)
    hashes = Hashes(*table.shape)
    hashes.spelling.copy_(table)
    batch = batch_of(vocabulary, texts)
    found = hashes(batch["input_ids"], batch["attention_mask"])
    sets = [set(row[row != 0].tolist()) for row in found]
    assert [len(row) for row in sets] == [int((row != 0).sum()) for row in found]
    return sets


def bag_of(vocabulary: Vocabulary, folder: Path, classes: int = 2) -> Any:
    def texts() -> Iterator[tuple[Any, int]]:
        return ((vocabulary.encode_framed(text, 32), place % 2) for place, text in enumerate(TEXTS))

    learn_ngrams(vocabulary, texts, classes, folder)
    table = load_ngrams(folder)
    config = LSTMConfig(
        vocab_size=vocabulary.size,
        num_ngrams=len(table["known"]),
        num_documents=int(table["num_documents"]),
        longest_token=table["spelling"].shape[1],
        num_labels=classes,
    )
    bag = Bag(config)
    bag.load(table)
    return bag


@pytest.mark.parametrize("train", [train_wordpiece, train_bpe, train_characters])
def test_tokens_are_spelled_as_the_text_is(tmp_path: Path, train: Any) -> None:
    vocabulary = train(TEXTS, 320, tmp_path)
    spelled = "".join(vocabulary.spell(i) for i in vocabulary.encode("the cats bark").tolist())
    assert spelled.strip() == "the cats bark"
    assert "".join(vocabulary.spell(i) for i in vocabulary.encode("中文").tolist()) == "中文"
    assert not any(vocabulary.spell(i) for i in vocabulary.marks.tolist())


def test_texts_share_the_n_grams_of_what_they_share(vocabulary: Vocabulary) -> None:
    thrice = "cats cats cats"
    texts = ["cats", "catsit", "bark", thrice, f"{thrice} cats", "中文很", "文很"]
    cats, longer, bark, three, four, chinese, part = hashes_of(vocabulary, texts)
    assert len(cats & longer) > len(cats & bark)
    assert len(chinese & part) >= 2  # 文很 as two characters and as two tokens
    assert three == four  # each once, however often
    assert hashes_of(vocabulary, ["cats"])[0] == cats  # whatever the padding


def test_the_n_grams_of_most_texts_are_known(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = [hashes for text in TEXTS for hashes in hashes_of(vocabulary, [text])]
    expected = {hash: sum(hash in one for one in every) for one in every for hash in one}
    monkeypatch.setattr(ngrams, "RECORDS_AT_ONCE", 2)
    bag_of(vocabulary, tmp_path)
    table = load_ngrams(tmp_path)
    assert table["known"].tolist() == sorted(expected)
    found = dict(zip(table["known"].tolist(), table["documents"].tolist(), strict=True))
    assert found == expected
    assert int(table["num_documents"]) == len(TEXTS)
    monkeypatch.setattr(ngrams, "MOST", 3)
    bag_of(vocabulary, tmp_path)
    kept = load_ngrams(tmp_path)["documents"].tolist()
    assert sorted(kept) == sorted(expected.values())[-3:]


@pytest.mark.parametrize("classes", [3, 70])
def test_a_bag_is_tf_idf_times_weights(
    vocabulary: Vocabulary, tmp_path: Path, classes: int
) -> None:
    bag = bag_of(vocabulary, tmp_path, classes)
    torch.nn.init.normal_(bag.weights.weight)
    batch = batch_of(vocabulary, TEXTS)
    found = bag(batch["input_ids"], batch["attention_mask"])
    assert found.shape == (len(TEXTS), classes)
    table = load_ngrams(tmp_path)
    known, documents = table["known"].tolist(), table["documents"].numpy()
    for logits, hashes in zip(found, hashes_of(vocabulary, TEXTS), strict=True):
        there = np.array([hash in hashes for hash in known])
        weights = there * (np.log((1 + len(TEXTS)) / (1 + documents)) + 1)
        weights = torch.from_numpy(weights / np.linalg.norm(weights)).float()
        evidence = table["evidence"] / ngrams.UNIT
        expected = bag.head(ngrams.SCALE * weights @ (evidence * bag.weights.weight))
        assert torch.allclose(logits, expected, atol=1e-4)


def test_what_training_has_not_seen_says_nothing(vocabulary: Vocabulary, tmp_path: Path) -> None:
    bag = bag_of(vocabulary, tmp_path)
    torch.nn.init.ones_(bag.weights.weight)
    strange = vocabulary.encode("zzz qqq")
    held: list[Any] = [{"tokens": strange[None], "tokens_length": np.asarray([strange.size])}]
    batch = padded(held[0], vocabulary.padding)
    assert strange.size
    assert not bag(batch["input_ids"], batch["attention_mask"]).any()


def test_an_n_gram_counts_by_what_it_tells_of_the_class(
    vocabulary: Vocabulary, tmp_path: Path
) -> None:
    bag_of(vocabulary, tmp_path)
    table = load_ngrams(tmp_path)
    by_class = {hash: [0, 0] for hash in table["known"].tolist()}
    for place, text in enumerate(TEXTS):
        for hash in hashes_of(vocabulary, [text])[0]:
            by_class[hash][place % 2] += 1
    expected = ngrams._evidence(np.array([*by_class.values()], float)) * ngrams.UNIT
    assert np.abs(table["evidence"].numpy() - expected).max() <= 0.5
    ratio = ngrams._evidence(np.array([[3.0, 0.0], [1.0, 1.0]]))
    there, elsewhere = np.array([[4, 1], [2, 2]]), np.array([[1, 4], [2, 2]])
    odds = np.abs(np.log(there / there.sum(0)) - np.log(elsewhere / elsewhere.sum(0)))
    assert np.allclose(ratio, (0.3 + odds) / (0.3 + odds).mean())


def test_of_very_many_the_rarest_are_forgotten(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngrams, "MOST_HELD", 40)
    monkeypatch.setattr(ngrams, "RECORDS_AT_ONCE", 1)
    bag_of(vocabulary, tmp_path)
    assert 1 <= len(load_ngrams(tmp_path)["known"]) <= 40

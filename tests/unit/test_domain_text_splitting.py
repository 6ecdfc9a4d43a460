import numpy as np
import pytest

from jobs.domains.text.packing import Packer, pack_all
from jobs.domains.text.splitting import by_key, cut, key_of


def test_a_cut_corpus_keeps_its_order() -> None:
    borders = cut(1_003_854, 0.1, 0.0)
    assert borders.of_characters(0, 1_003_854) == [
        ("train", 0, 903_468),
        ("validation", 903_468, 1_003_854),
    ]
    borders = cut(1000, 0.2, 0.1)
    assert borders.of_characters(0, 1000) == [
        ("train", 0, 700),
        ("validation", 700, 900),
        ("test", 900, 1000),
    ]
    assert borders.of_characters(690, 20) == [("train", 0, 10), ("validation", 10, 20)]
    assert borders.of_characters(700, 5) == [("validation", 0, 5)]
    assert borders.of_characters(900, 5) == [("test", 0, 5)]
    assert cut(10, 0.0, 0.0).of_characters(0, 10) == [("train", 0, 10)]


@pytest.mark.parametrize("num_documents", [20, 30, 999, 5000])
def test_shares_by_document(num_documents: int) -> None:
    keys = [key_of(f"document {i}", seed=3) for i in range(num_documents)]
    borders = by_key(keys[:1000], num_documents, 0.1, 0.05)
    splits = [borders.of_key(key) for key in keys]
    assert splits.count("validation") == pytest.approx(0.1 * num_documents, rel=0.15, abs=0.5)
    assert splits.count("test") == pytest.approx(0.05 * num_documents, rel=0.15, abs=0.5)
    assert {"train", "validation", "test"} == set(splits)


def test_without_shares_all_is_for_training() -> None:
    keys = [key_of(str(i), 0) for i in range(40)]
    assert {by_key(keys, 40, 0.0, 0.0).of_key(key) for key in keys} == {"train"}
    assert {by_key(keys[:30], 40, 0.0, 0.0).of_key(key) for key in keys} == {"train"}


def test_a_key_depends_on_text_and_seed_alone() -> None:
    assert key_of("text", 1) == key_of("text", 1) != key_of("text", 2)
    assert 0 <= key_of("", 0) < 1


@pytest.mark.parametrize("num_tokens", [0, 1, 4, 5, 8, 9, 1000, 1_048_590])
def test_rows_predict_every_token_but_the_first_once(num_tokens: int) -> None:
    packer = Packer(context=4, vocabulary_size=2_000_000)
    stream = np.arange(num_tokens, dtype=np.int32)
    parts = [stream[i : i + 700] for i in range(0, num_tokens, 700)]
    rows = [
        batch.column(0).flatten().to_numpy().reshape(-1, 5) for batch in pack_all(parts, packer)
    ]
    joined = np.concatenate([*rows, np.empty((0, 5), np.int32)])
    assert np.array_equal(joined[:, 1:].reshape(-1), stream[1 : 1 + 4 * len(joined)])
    assert np.array_equal(joined[:, 0], stream[:-1:4][: len(joined)])
    assert packer.rest("").size <= 4 or not num_tokens
    assert len(joined) == max(0, (num_tokens - 1) // 4)

import json
import pickle
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from jobs.domains.text.vocabulary import UNKNOWN, Vocabulary, train_bpe, train_characters

TEXTS = ["To be, or not to be: that is the question.\n\n", "滚滚长江东逝水浪花淘尽英雄。\n" * 3]
STRANGE = "To  be\tor 水!\r\n\n «tis» <|endoftext|> nobler 🙂"


@pytest.fixture(params=["bpe", "character"])
def vocabulary(request: pytest.FixtureRequest, tmp_path: Path) -> Vocabulary:
    train = train_bpe if request.param == "bpe" else train_characters
    return train(TEXTS, 300, tmp_path / "v")


def test_known_text_comes_back(vocabulary: Vocabulary) -> None:
    for text in TEXTS:
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text
        characters, sizes = vocabulary.extents
        assert characters[ids].sum() == len(text)
        assert sizes[ids].sum() == len(text.encode())


def test_a_mark_in_a_text_is_only_text(vocabulary: Vocabulary) -> None:
    assert vocabulary.end not in vocabulary.encode(STRANGE)
    assert vocabulary.extents[1][vocabulary.end] == 0


def test_transformers_reads_the_folder(vocabulary: Vocabulary, tmp_path: Path) -> None:
    for tokenizer in (
        PreTrainedTokenizerFast.from_pretrained(tmp_path / "v"),
        AutoTokenizer.from_pretrained(tmp_path / "v"),
    ):
        for text in TEXTS:
            assert tokenizer(text)["input_ids"] == vocabulary.encode(text).tolist()
        assert tokenizer.eos_token_id == vocabulary.end
        assert len(tokenizer) == vocabulary.size


def test_it_travels_with_its_content(vocabulary: Vocabulary, tmp_path: Path) -> None:
    content = pickle.dumps(vocabulary)
    (tmp_path / "v" / "tokenizer.json").unlink()
    again = pickle.loads(content)
    assert again.encode(STRANGE).tolist() == vocabulary.encode(STRANGE).tolist()


def test_byte_level_bpe_loses_nothing(tmp_path: Path) -> None:
    vocabulary = train_bpe(TEXTS, 300, tmp_path)
    assert vocabulary.size == 300
    ids = vocabulary.encode(STRANGE)
    assert vocabulary.decode(ids) == STRANGE
    assert vocabulary.extents[1][ids].sum() == len(STRANGE.encode())


def test_training_is_repeatable(tmp_path: Path) -> None:
    texts = [Path(json.__file__).read_text()] * 2
    for train in (train_bpe, train_characters):
        train(texts, 500, tmp_path / "a")
        train(texts, 500, tmp_path / "b")
        first, second = ((tmp_path / n / "tokenizer.json").read_bytes() for n in "ab")
        assert first == second


def test_rare_characters_are_unknown(tmp_path: Path) -> None:
    vocabulary = train_characters(["aaabbc"], 4, tmp_path)
    assert vocabulary.size == 4
    assert vocabulary.encode("abcz").tolist() == [2, 3, 1, 1]
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    assert document["model"]["vocab"][UNKNOWN] == 1


def test_a_tokenizer_without_an_end(tmp_path: Path) -> None:
    train_bpe(TEXTS, 300, tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match="no end-of-text token"):
        Vocabulary(tmp_path)

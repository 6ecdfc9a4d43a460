"""What is typed on the command line, as a model's input."""

from pathlib import Path

import pytest

from cluster.request import WrongRequestError
from jobs.verbs.predict import read_input


def test_inputs_are_texts_files_or_json(tmp_path: Path) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"a picture")
    assert read_input("vision", str(picture)) == b"a picture"
    assert read_input("text", str(picture)) == str(picture)
    assert read_input("speech", "three words of") == "three words of"
    assert read_input("recommendation", '{"user": 7}') == {"user": 7}
    assert read_input("recommendation", "{history: [os, sys]}") == {"history": ["os", "sys"]}
    with pytest.raises(WrongRequestError, match="no such file"):
        read_input("vision", "cat.png")
    with pytest.raises(WrongRequestError, match="no JSON"):
        read_input("recommendation", "user 7")

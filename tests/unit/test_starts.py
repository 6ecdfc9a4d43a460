"""Networks that start from a version are pinned to its number."""

from pathlib import Path

import pytest

from cluster.spec import Spec, load
from cluster.storage import Storage, open_storage
from jobs.bundles import claim_version, publish_version, set_alias
from jobs.starts import pinned, start_folder

YAML = """\
name: acme
models:
  first: {{domain: text, task: generation, data: builtin:python-docs}}
  second:
    domain: text
    task: generation
    data: builtin:python-docs
    network: {{pretrained: {start}}}
"""


def make(folder: Path, start: str) -> tuple[Spec, Storage]:
    (folder / "cluster.yaml").write_text(YAML.format(start=start))
    spec = load(folder / "cluster.yaml")
    return spec, open_storage(spec.cluster.storage, spec.name)


def publish(storage: Storage, folder: Path, run: str) -> int:
    files = folder / run
    files.mkdir()
    (files / "config.json").write_text("{}")
    number = claim_version(storage, "first", run)
    publish_version(storage, "first", number, files, {"run": run})
    return number


def test_latest_and_aliases_become_numbers_that_stay(tmp_path: Path) -> None:
    spec, storage = make(tmp_path, "first@latest")
    publish(storage, tmp_path, "one")
    publish(storage, tmp_path, "two")
    once = pinned(spec, "second", storage)
    publish(storage, tmp_path, "three")
    assert once.model("second").network.pretrained == "first@2"  # type: ignore[union-attr]
    assert pinned(once, "second", storage) == once
    assert "first@2" in once.dump()
    folder = start_folder(once.model("second"), storage)
    assert folder is not None
    assert folder.name == "2"


def test_an_alias_is_followed(tmp_path: Path) -> None:
    spec, storage = make(tmp_path, "first@production")
    publish(storage, tmp_path, "one")
    publish(storage, tmp_path, "two")
    set_alias(storage, "first", "production", 1, "me", "a test")
    network = pinned(spec, "second", storage).model("second").network
    assert network.pretrained == "first@1"  # type: ignore[union-attr]


@pytest.mark.parametrize("start", ["hf://gpt2", "./folder"])
def test_hub_names_and_folders_are_left_alone(tmp_path: Path, start: str) -> None:
    spec, storage = make(tmp_path, start)
    assert pinned(spec, "second", storage) is spec
    assert start_folder(spec.model("second"), storage) is None


def test_a_version_that_is_missing_is_named(tmp_path: Path) -> None:
    spec, storage = make(tmp_path, "first@7")
    with pytest.raises(ValueError, match="first"):
        pinned(spec, "second", storage)

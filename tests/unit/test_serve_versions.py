"""An alias that moves is followed; a bundle that does not load never replaces one that works."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cluster.storage import Storage, open_storage
from jobs.bundles import claim_version, publish_version, set_alias
from jobs.domains import Loaded
from serve.errors import ServiceError
from serve.versions import Shelf
from tests.fakes import FakeLoaded

KIND = ("text", "classification")


@pytest.fixture
def storage(local_address: Any) -> Storage:
    return open_storage(local_address, "acme")


def publish(storage: Storage, folder: Path, content: str, task: str = "classification") -> int:
    folder.mkdir()
    (folder / "weights").write_text(content)
    number = claim_version(storage, "m", f"run-{folder.name}")
    bundle = {"domain": "text", "task": task, "run": f"run-{folder.name}"}
    publish_version(storage, "m", number, folder, bundle)
    return number


def open_fake(domain: str, task: str, folder: Path) -> Loaded:
    if (folder / "weights").read_text() == "broken":
        raise RuntimeError("weights are broken")
    return FakeLoaded()


@pytest.fixture
def shelf(storage: Storage, tmp_path: Path) -> Shelf:
    for name in ("one", "two"):
        publish(storage, tmp_path / name, name)
    set_alias(storage, "m", "production", 1, "me", "")
    shelf = Shelf(storage, "m", open_fake, KIND)
    shelf.share({"production": 1.0})
    assert shelf.refresh()
    return shelf


def test_an_alias_that_moves_is_followed(shelf: Shelf, storage: Storage) -> None:
    before = shelf.pick("x")
    assert (before.number, shelf.refresh()) == (1, False)
    set_alias(storage, "m", "production", 2, "me", "")
    assert shelf.pick("x") is before  # nothing changes under a request
    assert shelf.refresh()
    assert shelf.pick("x").number == 2


def test_a_bundle_that_does_not_load_replaces_nothing(
    shelf: Shelf, storage: Storage, tmp_path: Path
) -> None:
    broken = publish(storage, tmp_path / "three", "broken")
    set_alias(storage, "m", "production", broken, "me", "")
    assert not shelf.refresh()
    assert shelf.pick("x").number == 1
    assert "m@3 does not load: weights are broken" in shelf.trouble["production"]
    set_alias(storage, "m", "production", 2, "me", "")
    shelf.refresh()
    assert (shelf.pick("x").number, shelf.trouble) == (2, {})


def test_a_version_of_another_task_is_not_served(
    shelf: Shelf, storage: Storage, tmp_path: Path
) -> None:
    other = publish(storage, tmp_path / "four", "four", "generation")
    set_alias(storage, "m", "production", other, "me", "")
    shelf.refresh()
    assert shelf.pick("x").number == 1
    assert "is of text generation" in shelf.trouble["production"]


def test_traffic_is_shared_and_sticky(shelf: Shelf, storage: Storage) -> None:
    shelf.share({"production": 0.9, "candidate": 0.1})
    shelf.refresh()
    assert {shelf.pick(str(n)).number for n in range(50)} == {1}  # no candidate yet
    set_alias(storage, "m", "candidate", 2, "me", "")
    shelf.refresh()
    chosen = {str(n): shelf.pick(str(n)).number for n in range(2000)}
    assert Counter(chosen.values())[2] == pytest.approx(200, abs=45)
    assert all(shelf.pick(key).number == number for key, number in chosen.items())


def test_versions_by_number(shelf: Shelf) -> None:
    assert shelf.find("2").number == 2
    assert shelf.find("production").number == 1
    assert shelf.find("2") is shelf.find("2")
    with pytest.raises(ServiceError) as caught:
        shelf.find("9")
    assert caught.value.status == 404
    assert "production" in caught.value.message


def test_without_any_version_the_reason_is_given(storage: Storage) -> None:
    shelf = Shelf(storage, "m", open_fake, KIND)
    shelf.share({"production": 1.0})
    shelf.refresh()
    with pytest.raises(ServiceError) as caught:
        shelf.pick("x")
    assert caught.value.status == 503
    assert "m has no version production" in caught.value.message

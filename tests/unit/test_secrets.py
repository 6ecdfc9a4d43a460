"""Secrets are read from files that only their owner can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.secrets import SecretError, read_secret, resolve, resolve_key
from cluster.spec.references import Secret


def test_resolve(secrets_folder: Path) -> None:
    (secrets_folder / "hf").touch(mode=0o600)
    (secrets_folder / "hf").write_text("hf_abc\n")
    assert resolve(Secret("hf")) == "hf_abc"
    assert resolve(Secret("s3", "access_key")) == "AKIDEXAMPLE"
    assert resolve_key(Secret("s3"), "secret_key") == "hush-hush"


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLIPWAY_SECRETS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SecretError, match=r"there is no .*/\.config/slipway/secrets/hf; run: "):
        resolve(Secret("hf"))


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_open_to_others(secrets_folder: Path, mode: int) -> None:
    path = secrets_folder / "s3" / "access_key"
    path.chmod(mode)
    with pytest.raises(SecretError, match=f"mode 0{mode:o}.*; run: chmod 600 {path}") as caught:
        resolve(Secret("s3", "access_key"))
    assert "AKIDEXAMPLE" not in str(caught.value)


def test_empty_folder_and_binary(secrets_folder: Path) -> None:
    (secrets_folder / "s3" / "access_key").write_text("\n")
    with pytest.raises(SecretError, match="is empty"):
        resolve(Secret("s3", "access_key"))
    with pytest.raises(SecretError, match="name a key in it: s3/KEY"):
        resolve(Secret("s3"))
    (secrets_folder / "s3" / "access_key").write_bytes(b"\xff\xfe")
    with pytest.raises(SecretError, match="not UTF-8 text"):
        resolve(Secret("s3", "access_key"))


def test_names_stay_inside(secrets_folder: Path) -> None:
    with pytest.raises(SecretError, match="not a name"):
        resolve(Secret("..", "passwd"))


def test_a_pods_group_may_read_what_kubernetes_mounts(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIPWAY_SECRETS", str(tmp_path))
    path = tmp_path / "hf"
    path.write_text("hush\n")
    path.chmod(0o440)
    with pytest.raises(SecretError, match="chmod 600"):
        read_secret("hf")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert read_secret("hf") == "hush"
    path.chmod(0o444)
    with pytest.raises(SecretError, match="others can read"):
        read_secret("hf")

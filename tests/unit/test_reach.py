"""Processes that are stuck: where they are, and their end."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from jobs.reach import _end, _stack
from jobs.watch import Place

PROGRAM = "import time; print(1, flush=True); time.sleep(60)"


@pytest.fixture
def stopped() -> Iterator[Place]:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)  # the signal takes its time
    began = psutil.Process(process.pid).create_time()
    yield Place(0, "here", "node", process.pid, began)
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_stopped_process_is_looked_at_and_ended(stopped: Place) -> None:
    told = _stack(stopped)
    assert told.startswith("the process is stopped")
    assert "<module>" in told
    _end(stopped)
    assert psutil.Process(stopped.pid).wait(timeout=10) is not None
    assert _stack(stopped) == "the process is gone"


def test_another_process_of_that_number_is_let_be(stopped: Place) -> None:
    other = dataclasses.replace(stopped, began=stopped.began - 100)
    _end(other)
    assert _stack(other) == "the process is gone"
    assert psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED

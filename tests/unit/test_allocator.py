"""What a process keeps of the memory that it has taken."""

import os
import platform
import subprocess
import sys

import pytest

from cluster.allocator import KEEP_MEMORY

WORK = """
import resource, threading

def work():
    for _ in range(50):
        bytearray(8 * 2**20), bytearray(40 * 2**20)

thread = threading.Thread(target=work)  # as Ray does with a training
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(**environment: str) -> int:
    """Pages that the kernel gave a process which takes and frees blocks of memory."""
    command = [sys.executable, "-c", WORK]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do not read it")
def test_blocks_are_taken_once() -> None:
    assert faults(**KEEP_MEMORY) * 10 < faults()

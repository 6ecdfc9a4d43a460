"""Compile DeepSpeed's C++ extensions once, so that no run waits for a compiler.

    python -m jobs.extensions

They are kept in TORCH_EXTENSIONS_DIR, in the environment's own folder by default.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NAMES = ("deepspeed_shm_comm", "cpu_adam")
BUILDERS = {"deepspeed_shm_comm": "ShareMemCommBuilder", "cpu_adam": "CPUAdamBuilder"}


def folder() -> Path:
    """Return where the extensions are kept."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or Path(sys.prefix) / "torch_extensions")


def missing() -> list[str]:
    """Return the extensions that are not compiled yet."""
    return [name for name in NAMES if not any(folder().rglob(f"{name}.so"))]


def build(name: str) -> None:
    """Compile one extension in this process; slow imports stay here."""
    from deepspeed.accelerator import get_accelerator

    get_accelerator().create_op_builder(BUILDERS[name]).load(verbose=False)


def main() -> int:
    """Compile what is missing, side by side; returns the exit code."""
    if len(sys.argv) == 2:
        build(sys.argv[1])
        return 0
    environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(folder()), "MAX_JOBS": "2"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # finds ninja
    failed = 0
    for name in missing():
        # A killed build leaves a lock that the next one would wait for without end.
        for lock in folder().rglob(f"{name}/lock"):
            lock.unlink()
        command = [sys.executable, "-m", "jobs.extensions", name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(f"{name} did not compile:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())

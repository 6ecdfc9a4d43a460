"""How processes that compute on CPUs take memory from the system: once, not at every step.

glibc returns large blocks as they are freed, so that each step's activations are mapped, zeroed and
unmapped anew; off the main thread, where Ray runs a training, also small ones. Torch's CUDA
allocator keeps its blocks for the same reason.
"""

from __future__ import annotations

_LARGEST_BLOCK = 32 * 2**20  # the most that glibc lets mmap_threshold be
_NEVER = 2**40

KEEP_MEMORY = {
    # See "Memory Allocation Tunables" in glibc's manual; other C libraries do not read it.
    "GLIBC_TUNABLES": ":".join(
        (
            "glibc.malloc.arena_max=1",
            f"glibc.malloc.mmap_threshold={_LARGEST_BLOCK}",
            f"glibc.malloc.trim_threshold={_NEVER}",
            "glibc.malloc.hugetlb=1",  # larger blocks are still mapped, in pages of 2 MiB
        )
    )
}
"""Environment of a process that keeps what it has once taken; read as the process starts."""

"""Accelerators by name: memory and peak speed, as their makers state them.

Dense bfloat16 (float16 where there is no bfloat16), without sparsity, from NVIDIA's data
sheets and AMD's product pages as of 2026-11.
"""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True)
class Device:
    """One accelerator: ``memory_bytes``, and ``flops`` per second in 16 bits."""

    memory_bytes: int
    flops: float


DEVICES = {
    "B200": Device(180 * GB, 2250e12),
    "H200": Device(141 * GB, 989e12),
    "H100": Device(80 * GB, 989e12),
    "MI300X": Device(192 * GB, 1307e12),
    "A100-80GB": Device(80 * GB, 312e12),
    "A100": Device(40 * GB, 312e12),
    "L40S": Device(48 * GB, 362e12),
    "L4": Device(24 * GB, 121e12),
    "A10G": Device(24 * GB, 70e12),
    "V100": Device(16 * GB, 125e12),
    "T4": Device(16 * GB, 65e12),
}


def device_named(name: str) -> Device | None:
    """Find a device by our name, or by the one its driver reports ("NVIDIA H200")."""
    if name in DEVICES:
        return DEVICES[name]
    words = name.replace("-", " ").split()
    return next((device for key, device in DEVICES.items() if key.split("-")[0] in words), None)

"""Size of the networks for pictures, exactly as jobs/domains/vision builds them, without torch."""

from __future__ import annotations

from cluster.spec.networks import CNN, ResNet

CHANNELS, CLASSES, SIDE = 3, 10, 64
"""Assumed before the data is read."""


def picture_parameters(
    network: ResNet | CNN, channels: int = CHANNELS, classes: int = CLASSES
) -> int:
    """Parameters of a network; of batch norm its scales and shifts, not its statistics."""
    widths: list[int] = [network.width * 2**i for i in range(network.stages)]
    if isinstance(network, ResNet):
        total = _layer(channels, network.width, 7)
        for inner, outer in zip([network.width, *widths], widths, strict=False):
            total += _layer(inner, outer) + _layer(outer, outer)
            total += _layer(inner, outer, 1) if inner != outer else 0
            total += (network.blocks - 1) * 2 * _layer(outer, outer)
        return total + (widths[-1] + 1) * classes
    total = _layer(channels, network.width)
    for inner in widths:
        total += _layer(inner, 2 * inner) + network.blocks * 2 * _layer(2 * inner, 2 * inner)
    return total + (2 * widths[-1] + 1) * classes


def picture_values(network: ResNet | CNN) -> int:
    """Numbers that one picture's activations hold until the backward pass, about.

    Of each layer what convolution, batch norm and ReLU give.
    """
    side = SIDE if network.size == "auto" else int(network.size)
    total: int
    layers = 2 * network.blocks + 1
    if isinstance(network, ResNet):
        enlarge = 4 if side <= 32 else 2 if side <= 64 else 1
        total = 3 * network.width * (side * enlarge // 2) ** 2
        side = max(1, side * enlarge // 4)
        for i in range(network.stages):
            total += 3 * layers * network.width * 2**i * side**2
            side = max(1, side // 2)
        return total
    total = 3 * network.width * side**2
    for i in range(network.stages):
        outer, halved = network.width * 2 ** (i + 1), -(-side // 2)
        total += 3 * outer * side**2 + 3 * (layers - 1) * outer * halved**2
        side = halved
    return total


def _layer(inner: int, outer: int, kernel: int = 3) -> int:
    """A convolution without bias, and its batch norm."""
    return inner * outer * kernel**2 + 2 * outer

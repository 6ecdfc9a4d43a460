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


def picture_values(network: ResNet | CNN, channels: int = CHANNELS) -> int:
    """Numbers that one picture's activations hold until the backward pass.

    Of each convolution its output, for batch norm, and what ReLU makes of it; of a maximum where
    it was, in 64 bits; the sums around shortcuts.
    """
    side = SIDE if network.size == "auto" else int(network.size)
    if isinstance(network, ResNet):
        side *= _enlargement(side)
        total = channels * side**2 + 2 * network.width * (side // 2) ** 2
        side = max(1, side // 4)
        total += 3 * network.width * side**2
        for i in range(network.stages):
            convolutions = 4 * network.blocks + (1 if i else 0)  # one more shortens the way round
            total += convolutions * network.width * 2**i * side**2
            side = max(1, side // 2)
        return total
    total = (channels + 2 * network.width) * side**2
    for i in range(network.stages):
        outer, halved = network.width * 2 ** (i + 1), -(-side // 2)
        total += 2 * outer * side**2 + (3 + 5 * network.blocks) * outer * halved**2
        side = halved
    return total


def picture_flops(network: ResNet | CNN, channels: int = CHANNELS) -> float:
    """Operations of training on one picture: 2 a weight and place forward, twice that backward."""
    side = SIDE if network.size == "auto" else int(network.size)
    widths = [network.width * 2**i for i in range(network.stages)]
    if isinstance(network, ResNet):
        side = max(1, side * _enlargement(side) // 2)
        total = 49 * channels * network.width * side**2
        for inner, outer in zip([network.width, *widths], widths, strict=False):
            # the stem and every stage but the first halve the sides
            side = max(1, side // 2)
            layers = 9 * (inner * outer + (2 * network.blocks - 1) * outer * outer)
            total += (layers + (inner * outer if inner != outer else 0)) * side**2
        return 6.0 * total
    total = 9 * channels * network.width * side**2
    for inner in widths:
        total += 9 * inner * 2 * inner * side**2
        side = -(-side // 2)
        total += 9 * network.blocks * 2 * (2 * inner) ** 2 * side**2
    return 6.0 * total


def _enlargement(side: int) -> int:
    """By so much a ResNet's small pictures are enlarged before its stem."""
    return 4 if side <= 32 else 2 if side <= 64 else 1


def _layer(inner: int, outer: int, kernel: int = 3) -> int:
    """A convolution without bias, and its batch norm."""
    return inner * outer * kernel**2 + 2 * outer

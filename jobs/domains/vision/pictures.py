"""How a model's pictures are: side, channels and normalisation, in its processor's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "pictures.json"
PREPROCESSOR = "preprocessor_config.json"
NEAREST, BILINEAR = 0, 2
"""PIL's numbers, as transformers' image processors name them."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Pictures:
    """Pixels are (value / 255 - mean) / std by channel, [channels, size, size]."""

    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    enlarge: int = 1
    """Each pixel becomes so many squared before the network sees it."""

    @classmethod
    def load(cls, folder: Path) -> Pictures:
        content = json.loads((folder / FILE).read_text("utf-8"))
        return cls(**content | {"mean": tuple(content["mean"]), "std": tuple(content["std"])})

    def save(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    def shaped(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[batch, channels, size, size] of rows [batch, channels * size * size]."""
        return pixels.reshape(-1, self.channels, self.size, self.size)

    def normalised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 [batch, channels, size, size] of bytes of that shape."""
        shape = (len(self.mean), 1, 1)
        scale = np.asarray(1 / (255 * np.asarray(self.std)), np.float32).reshape(shape)
        shift = np.asarray(np.asarray(self.mean) / self.std, np.float32).reshape(shape)
        values: NDArray[np.float32] = pixels.astype(np.float32)
        values *= scale
        values -= shift
        return values

    def preprocessor(self) -> dict[str, Any]:
        """For transformers' AutoImageProcessor; exact for pictures of `size` on both sides."""
        side = self.size * self.enlarge
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": side},
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "resample": NEAREST if self.enlarge > 1 else BILINEAR,
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
            "do_convert_rgb": self.channels == 3,
        }


def enlargement(size: int) -> int:
    """What brings the first stage of a ResNet to a picture's own resolution: its stem takes 4.

    Pictures of more than 32 pixels are seen at half of theirs, large ones as everywhere.
    """
    return 4 if size <= 32 else 2 if size <= 64 else 1


def pictures_of(preprocessor: Mapping[str, Any], config: Mapping[str, Any]) -> Pictures:
    """What a pretrained network saw, from its preprocessor_config.json and config.json."""
    given = preprocessor.get("crop_size") if preprocessor.get("do_center_crop") else None
    size = _side(given or preprocessor.get("size") or config.get("image_size") or 224)
    channels = int(config.get("num_channels") or 3)
    mean = preprocessor.get("image_mean") or IMAGENET[0]
    std = preprocessor.get("image_std") or IMAGENET[1]
    if preprocessor.get("do_normalize") is False:
        mean, std = (0.0,) * channels, (1.0,) * channels
    return Pictures(size, channels, _per_channel(mean, channels), _per_channel(std, channels))


def _side(size: Any) -> int:
    if isinstance(size, Mapping):
        size = size.get("shortest_edge") or size.get("height") or next(iter(size.values()))
    return int(min(size)) if isinstance(size, list | tuple) else int(size)


def _per_channel(values: Any, channels: int) -> tuple[float, ...]:
    values = [values] if isinstance(values, int | float) else list(values)
    return tuple(float(value) for value in (values * channels)[:channels])

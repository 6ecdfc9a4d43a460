"""What each task takes over HTTP and answers, in the shapes of Hugging Face's inference API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from serve.content import Content
from serve.samples import picture, tone
from serve.sound import speech

MIB = 2**20


@dataclass(frozen=True)
class Task:
    """One task: limits, and the shape of its answers."""

    media: str
    """What bytes without JSON are: "image", "audio"; "" where only JSON is taken."""
    limit_bytes: int
    """Most bytes of a request's body."""
    shape: Callable[[Any], Any]
    """An answer of `Loaded` as Hugging Face's clients read it."""
    sample: Callable[[], Mapping[str, Any]]
    """A request that warms the model up."""
    deadline_s: float = 30.0
    """An answer that takes longer is given up."""
    is_generation: bool = False


def _written(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"generated_text": answer["generated_text"]}]


def _text(inputs: str, **parameters: Any) -> Callable[[], Mapping[str, Any]]:
    return lambda: {"inputs": inputs, "parameters": parameters}


TASKS: dict[tuple[str, str], Task] = {
    ("text", "generation"): Task("", MIB, _written, _text("a", max_new_tokens=1), 300.0, True),
    ("text", "classification"): Task("", MIB, lambda answer: answer, _text("a")),
    ("text", "masked-lm"): Task("", MIB, lambda answer: answer, _text("a [MASK]")),
    ("vision", "classification"): Task(
        "image", 20 * MIB, lambda answer: answer, lambda: {"inputs": picture(), "parameters": {}}
    ),
    ("speech", "recognition"): Task(
        "audio",
        50 * MIB,
        lambda answer: answer,
        lambda: {"inputs": tone(), "parameters": {}},
        120.0,
    ),
    ("speech", "synthesis"): Task("", MIB, speech, _text("a"), 120.0),
    ("recommendation", "next-item"): Task(
        "", MIB, lambda answer: answer, lambda: {"inputs": {"history": []}, "parameters": {}}
    ),
    ("recommendation", "rating"): Task(
        "", MIB, lambda answer: answer, lambda: {"inputs": {"history": []}, "parameters": {}}
    ),
}
"""By domain and task."""


def shaped(task: Task, answer: Any) -> Content:
    """An answer of `Loaded` as content."""
    found = task.shape(answer)
    return found if isinstance(found, Content) else Content(found)

"""Prompts to continuations, with a trained causal language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import StoppingCriteria, StoppingCriteriaList

from jobs.domains import Columns
from jobs.domains.text.vocabulary import Vocabulary

Ids = TypeVar("Ids", Tensor, list[int])
MAX_NEW_TOKENS = 4096
WHOLE = ("max_new_tokens", "top_k", "seed")
SEEDS = (-(1 << 63), (1 << 64) - 1)  # what torch's generators take
STOP_CHARACTERS = 64
"""So much of the newest text is searched for a stop text after each token, beyond its length."""


@dataclass(frozen=True)
class Parameters:
    """How to continue a prompt; names as in Hugging Face's text generation interface."""

    max_new_tokens: int = 100
    temperature: float = 0.8
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    top_k: int = 0
    """0 considers all tokens."""
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """Generation ends before the first of these texts."""
    return_full_text: bool = False
    """Whether the prompt comes before the continuation."""

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Parameters:
        """Raises ValueError for unknown names and for values out of range."""
        names = [field.name for field in fields(cls)]
        values = {name: value for name, value in given.items() if value is not None}
        if values.pop("do_sample", True) is False:
            values["temperature"] = 0.0
        for name in [n for n, value in values.items() if n not in names and value is not False]:
            raise ValueError(f'unknown parameter "{name}"; known: {", ".join(names)}')
        stop = values.get("stop", [])
        if not isinstance(stop, str | list | tuple):
            raise ValueError(f"stop must be a text or a list of texts, not {stop!r}")
        values["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
        values |= {name: whole(name, values[name]) for name in WHOLE if name in values}
        parsed = cls(**{name: value for name, value in values.items() if name in names})
        parsed._check()
        return parsed

    def _check(self) -> None:
        for name, low, high in (
            ("max_new_tokens", 1, MAX_NEW_TOKENS),
            ("temperature", 0, 100),
            ("top_p", 0, 1),
            ("top_k", 0, 1 << 30),
            ("seed", *SEEDS),
        ):
            value = getattr(self, name)
            if name == "seed" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"{name} must be a number, not {value!r}")
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low} to {high}, not {value!r}")
        if not isinstance(self.return_full_text, bool):
            raise ValueError(
                f"return_full_text must be true or false, not {self.return_full_text!r}"
            )
        if not all(isinstance(text, str) and text for text in self.stop):
            raise ValueError("stop must be texts that are not empty")


class GenerationAnswers:
    """Continues prompts. One call at a time: sampling sets torch's generator where seeded."""

    def __init__(self, network: nn.Module, vocabulary: Vocabulary) -> None:
        self.network: Any = network
        self.vocabulary = vocabulary
        config: Any = network.config
        self.context = int(config.max_position_embeddings)

    def row(self, request: Mapping[str, Any]) -> Columns:
        """The prompt of a request as tokens, [1, tokens]."""
        prompt = request.get("inputs")
        if not isinstance(prompt, str):
            raise ValueError('"inputs" must be a text')
        return {"tokens": self.vocabulary.encode(prompt)[None]}

    def answers(
        self, rows: Sequence[Columns], requests: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """A continuation of each prompt, one after the other."""
        return [self.answer(request) for request in requests]

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """{"inputs": prompt, "parameters": {...}} to {"generated_text": continuation}.

        Prompts longer than the context lose their beginning; an empty one starts a new document.
        """
        parameters = parameters_of(request)
        prompt = request["inputs"]
        text = self._continue(prompt, parameters)
        return {"generated_text": prompt + text if parameters.return_full_text else text}

    def parse(self, request: Mapping[str, Any]) -> tuple[list[int], Parameters]:
        """The prompt's tokens and how to continue it; ValueError where the request is wrong."""
        parameters = parameters_of(request)
        return self.vocabulary.encode(request["inputs"]).tolist(), parameters

    @torch.inference_mode()
    def _continue(self, prompt: str, parameters: Parameters) -> str:
        device = self.network.device
        ids = torch.from_numpy(self.vocabulary.encode(prompt)).long()
        if not ids.numel():
            ids = torch.tensor([self.vocabulary.end])
        made: list[int] = []
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if parameters.seed is not None:
                torch.manual_seed(parameters.seed)
            while len(made) < parameters.max_new_tokens:
                window, room = self.window(ids, parameters.max_new_tokens - len(made))
                new = self._generate(window.to(device), room, parameters, made)
                made += new
                ids = torch.cat([window, torch.tensor(new, dtype=torch.long)])
                if self._is_over(made, parameters):
                    break
        return self._cut(made, parameters)

    def window(self, ids: Ids, wanted: int) -> tuple[Ids, int]:
        """The newest ids, and how many may follow before the context is full."""
        kept = max(1, self.context - min(wanted, max(1, self.context // 4)))
        window: Ids = ids[-kept:] if len(ids) + wanted > self.context else ids
        return window, min(wanted, self.context - len(window))

    def _generate(
        self, window: Tensor, room: int, parameters: Parameters, made: list[int]
    ) -> list[int]:
        sampling: dict[str, Any] = {"do_sample": parameters.temperature > 0}
        if parameters.temperature > 0:
            sampling |= {"temperature": parameters.temperature, "top_k": parameters.top_k}
            sampling |= {"top_p": parameters.top_p or 1e-6}
        start = window.numel()
        seen = _Seen(lambda new: self._is_over(made + new, parameters), start)
        output = self.network.generate(
            window[None],
            attention_mask=torch.ones_like(window[None]),
            max_new_tokens=room,
            pad_token_id=self.vocabulary.end,
            eos_token_id=self.vocabulary.end,
            stopping_criteria=StoppingCriteriaList([seen] if parameters.stop else []),
            **sampling,
        )
        return [int(token) for token in output[0, start:]]

    def _is_over(self, made: list[int], parameters: Parameters) -> bool:
        if made and made[-1] == self.vocabulary.end:
            return True
        longest = max((len(text) for text in parameters.stop), default=0)
        newest = self.vocabulary.decode(made[-(longest * 4 + STOP_CHARACTERS) :])
        return any(text in newest for text in parameters.stop)

    def _cut(self, made: list[int], parameters: Parameters) -> str:
        text = self.vocabulary.decode(made)
        places = [text.find(stop) for stop in parameters.stop]
        return text[: min((place for place in places if place >= 0), default=len(text))]


def whole(name: str, value: Any) -> int:
    """A whole number as JSON may write it, 5 or 5.0; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    return int(value)


def parameters_of(request: Mapping[str, Any]) -> Parameters:
    """The parameters of a request whose "inputs" are a text; ValueError where it is wrong."""
    if not isinstance(request.get("inputs"), str):
        raise ValueError('"inputs" must be a text')
    given = request.get("parameters") or {}
    if not isinstance(given, Mapping):
        raise ValueError('"parameters" must be a mapping')
    return Parameters.parse(given)


class _Seen(StoppingCriteria):  # type: ignore[misc]
    """Ends generation once the new tokens satisfy a condition."""

    def __init__(self, is_over: Any, start: int) -> None:
        self.is_over = is_over
        self.start = start

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: Any) -> Tensor:
        done = self.is_over(input_ids[0, self.start :].tolist())
        return torch.tensor([done], device=input_ids.device)

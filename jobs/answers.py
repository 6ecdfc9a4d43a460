"""Many inputs to answers, and answers to columns."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from jobs.domains import Columns, Loaded

BATCH = 32
STREAMS = 32
ANSWER, SCORE, ERROR = "prediction", "prediction_score", "prediction_error"
Request = dict[str, Any]


def answer_all(loaded: Loaded, requests: Sequence[Request], is_generation: bool) -> list[Any]:
    """An answer to each, or the Exception that says why there is none; like lengths together."""
    if is_generation and not any(r["parameters"].get("seed") for r in requests):
        return asyncio.run(_streamed(loaded, requests))
    rows = [_row(loaded, request) for request in requests]
    found: list[Any] = list(rows)
    places = [i for i, row in enumerate(rows) if not isinstance(row, Exception)]
    places.sort(key=lambda i: max((column.size for column in rows[i].values()), default=1))
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        answers = compute(loaded, [rows[i] for i in batch], [requests[i] for i in batch])
        for place, answer in zip(batch, answers, strict=True):
            found[place] = answer
    return found


def _row(loaded: Loaded, request: Request) -> Any:
    try:
        return loaded.row(request)
    except ValueError as error:
        return error


def compute(loaded: Loaded, rows: Sequence[Columns], requests: Sequence[Request]) -> list[Any]:
    """One that fails does not take the others of its batch with it."""
    try:
        return loaded.answers(rows, requests)
    except Exception as error:
        if len(rows) == 1:
            return [error]
        pairs = zip(rows, requests, strict=True)
        return [compute(loaded, [row], [request])[0] for row, request in pairs]


async def _streamed(loaded: Any, requests: Sequence[Request]) -> list[Any]:
    """Continuations of many prompts at once."""
    from jobs.domains.text.streaming import Streams

    streams, slots = Streams(loaded, STREAMS), asyncio.Semaphore(STREAMS)

    async def write(request: Request) -> Any:
        whole = request["parameters"].get("return_full_text") is True
        text = request["inputs"] if whole else ""
        async with slots:
            try:
                async for piece in streams.write(request):
                    text += piece.text
            except (ValueError, RuntimeError) as error:
                return error
        return {"generated_text": text}

    try:
        return list(await asyncio.gather(*(write(request) for request in requests)))
    finally:
        streams.close()


def answer_types(domain: str, task: str, is_list: bool) -> dict[str, pa.DataType]:
    """The columns that are added to the input's own. `is_list`: several answers to each."""
    if (domain, task) == ("recommendation", "rating"):
        return {ANSWER: pa.float64()}
    if (domain, task) == ("speech", "synthesis"):
        return {ANSWER: pa.binary()}
    if task in ("generation", "recognition"):
        return {ANSWER: pa.string()}
    if is_list or task in ("next-item", "masked-lm"):
        return {ANSWER: pa.list_(pa.string()), SCORE: pa.list_(pa.float64())}
    return {ANSWER: pa.string(), SCORE: pa.float64()}


def with_answers(
    own: pa.Table, answers: Sequence[Any], types: Mapping[str, pa.DataType]
) -> pa.Table:
    """The input's own columns and what was answered; what was not has its reason instead."""
    is_list = pa.types.is_list(types[ANSWER])
    cells = [{} if isinstance(a, Exception) else answer_cells(a, is_list) for a in answers]
    errors = [str(a) or type(a).__name__ if isinstance(a, Exception) else None for a in answers]
    for name, kind in types.items():
        own = own.append_column(name, pa.array([cell.get(name) for cell in cells], kind))
    return own.append_column(ERROR, pa.array(errors, pa.string()))


def answer_cells(answer: Any, is_list: bool) -> dict[str, Any]:
    """What a domain answers, as cells."""
    if isinstance(answer, Mapping):
        if "audio" in answer:
            return {ANSWER: base64.b64decode(answer["audio"])}
        return {ANSWER: next(answer[n] for n in ("generated_text", "text", "score") if n in answer)}
    if answer and isinstance(answer[0], list):  # of several gaps the likeliest filling each
        answer = answer[0] if len(answer) == 1 else [each[0] for each in answer]
    keys = ("label", "item", "token_str")
    names = [str(next(each[key] for key in keys if key in each)) for each in answer]
    scores = [each["score"] for each in answer]
    if is_list:
        return {ANSWER: names, SCORE: scores}
    return {ANSWER: names[0], SCORE: scores[0]}

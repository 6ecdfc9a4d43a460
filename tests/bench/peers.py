"""What people write instead: python -m tests.bench.peers fastapi|litserve FOLDER KIND PORT.

Both use the same bundle and the same functions to read a request; one thread for the network.
Requests are JSON, pictures in base64 inside it: what LitServe reads.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import litserve as ls
import torch
import uvicorn
from fastapi import FastAPI

from jobs.domains import load

BATCH = 16


def opened(folder: str, kind: tuple[str, str]) -> Any:
    """The bundle, with one thread."""
    torch.set_num_threads(1)
    return load(*kind, Path(folder))


def fastapi(folder: str, kind: tuple[str, str], port: int) -> None:
    """A service as it is written by hand: FastAPI reads, and computes in its threads."""
    loaded, app = opened(folder, kind), FastAPI()

    @app.post("/predict")
    def predict(request: dict[str, Any]) -> Any:
        return loaded.answer(request)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


class API(ls.LitAPI):  # type: ignore[misc]
    """LitServe's side of a model, pickled into its worker."""

    def __init__(self, folder: str, kind: tuple[str, str]) -> None:
        super().__init__(max_batch_size=BATCH)
        self.folder, self.kind = folder, kind

    def setup(self, device: str) -> None:
        """In the worker."""
        self.loaded = opened(self.folder, self.kind)

    def decode_request(self, request):  # type: ignore[no-untyped-def]
        """One request as a row. A type would be taken for that of FastAPI's parameter."""
        return request, self.loaded.row(request)

    def batch(self, inputs: list[Any]) -> list[Any]:
        """As they are: the domain joins rows itself."""
        return inputs

    def predict(self, pairs: list[Any]) -> list[Any]:
        """Answers to a batch."""
        requests, rows = zip(*pairs, strict=True)
        return list(self.loaded.answers(rows, requests))

    def unbatch(self, output: list[Any]) -> list[Any]:
        """They are a list already."""
        return output

    def encode_response(self, output: Any) -> Any:
        """As JSON."""
        return output


def litserve(folder: str, kind: tuple[str, str], port: int) -> None:
    """LitServe with batches of 16."""
    server = ls.LitServer(API(folder, kind), accelerator="cpu")
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    name, folder, domain, task, port = sys.argv[1:]
    {"fastapi": fastapi, "litserve": litserve}[name](folder, (domain, task), int(port))

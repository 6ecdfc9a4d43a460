"""A store that speaks S3, for as long as a row needs one."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from cluster.spec import Spec, load


@contextmanager
def on_s3(folder: Path) -> Iterator[Spec]:
    """The spec in ``folder``/cluster.yaml with its storage at a moto server of its own."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        os.environ |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        client.create_bucket(Bucket="bench")
        place = f"{{url: 's3://bench/p', endpoint: '{endpoint}', region: us-east-1}}"
        yield load(folder / "cluster.yaml", None, [f"cluster.storage={place}"])
    finally:
        server.stop()

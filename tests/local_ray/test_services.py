"""Services as users have them: the clients people use, versions that move, replicas killed."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from huggingface_hub import InferenceClient

from cluster import api, local, services
from cluster.processes import owned
from cluster.request import ELSEWHERE
from cluster.storage import open_storage
from jobs.bundles import set_alias
from serve import verbs
from tests.services import (
    DIGITS,
    FILMS,
    LABELS,
    LANGUAGE,
    VOICE,
    WORDS,
    Load,
    Served,
    ask,
    picture,
    publish,
    serving,
)

PROMPT = "The for statement"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("services")
    models = {
        "writer": LANGUAGE | {"serve": {}},
        "labels": LABELS | {"serve": {"replicas": 2}},
        "digits": DIGITS | {"serve": {"replicas": "0..2"}},
        "words": WORDS | {"serve": {}},
        "voice": VOICE | {"serve": {}},
        "films": FILMS | {"serve": {}},
    }
    with serving(folder, models) as found:
        publish(found.spec, "labels", 2, folder / "labels-2")
        yield found


def test_openai_completes_and_streams(served: Served) -> None:
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token)
    assert {model.id for model in client.models.list()} == set(served.spec.models)
    options: Any = {"model": "writer", "prompt": PROMPT, "max_tokens": 12, "temperature": 0}
    whole = client.completions.create(**options)
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 12
    parts = [part.choices[0].text for part in client.completions.create(stream=True, **options)]
    assert len(parts) > 2
    assert "".join(parts) == whole.choices[0].text
    with pytest.raises(openai.NotFoundError, match="models: "):
        client.completions.create(model="nobody", prompt="a")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong").models.list()


def test_openai_embeds(served: Served) -> None:
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token)
    texts = ["a short text", "another one"]
    packed = client.embeddings.create(model="labels", input=texts)  # base64 below
    plain = client.embeddings.create(model="labels", input=texts, encoding_format="float")
    assert len(plain.data[0].embedding) == 32
    assert packed.data[1].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)


def test_hugging_faces_client_answers(served: Served) -> None:
    def client(name: str) -> InferenceClient:
        return InferenceClient(model=f"{served.url}/models/{name}", token=served.token)

    text = client("writer").text_generation(PROMPT, max_new_tokens=5)
    assert isinstance(text, str)
    labels = client("labels").text_classification("open a socket and listen")
    assert sum(each.score for each in labels) == pytest.approx(1, abs=1e-3)
    # digits has no replica yet: the first request starts one
    shown = client("digits").image_classification(picture())
    assert {each.label for each in shown} <= set("0123456789")


def test_speech_through_both_clients(served: Served) -> None:
    client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token)
    options: Any = {"model": "voice", "voice": "any", "input": "yes. no."}
    wav = client.audio.speech.create(response_format="wav", **options).read()
    mp3 = client.audio.speech.create(**options).read()
    assert (wav[:4], wav[8:12]) == (b"RIFF", b"WAVE")
    assert len(mp3) > 500
    for name, sound in (("a.wav", wav), ("a.mp3", mp3)):
        heard = client.audio.transcriptions.create(model="words", file=(name, sound))
        assert isinstance(heard.text, str)
    voice = InferenceClient(model=f"{served.url}/models/voice", token=served.token)
    words = InferenceClient(model=f"{served.url}/models/words", token=served.token)
    spoken = voice.text_to_speech("yes")
    assert spoken[:4] == b"RIFF"
    assert isinstance(words.automatic_speech_recognition(spoken).text, str)
    liar = wav[:40] + b"\xff\xff\xff\x7f" + wav[44:60]
    refused = served.ask("/models/words", liar, headers={"Content-Type": ""})
    assert refused.status in (200, 422)


def test_films_are_recommended(served: Served) -> None:
    found = served.ask("/models/films", {"inputs": {"user": "u3"}, "parameters": {"top_k": 4}})
    assert len(found.json()) == 4
    assert set(found.json()[0]) == {"item", "score"}
    history = {"inputs": {"history": ["film 1", "film 4"]}}
    items = {each["item"] for each in served.ask("/models/films", history).json()}
    assert not items & {"film 1", "film 4"}
    for wrong in ({"user": "nobody"}, {"history": ["no film"]}, {"history": 3}, {}):
        assert served.ask("/models/films", {"inputs": wrong}).status == 422
    for top_k in (-1, 10**9, "a"):
        body = history | {"parameters": {"top_k": top_k}}
        assert served.ask("/models/films", body).status in (200, 422)


def test_eight_streams_give_the_tokens_of_one(served: Served) -> None:
    prompts = [f"{PROMPT} {n}" for n in range(8)]
    parameters = {"max_new_tokens": 20, "temperature": 0}
    alone = [
        served.ask("/models/writer", {"inputs": prompt, "parameters": parameters}).json()
        for prompt in prompts
    ]
    together = served.ask("/models/writer", {"inputs": prompts, "parameters": parameters}).json()
    assert [each[0] for each in alone] == together


def test_an_alias_moves_without_a_failed_request(served: Served) -> None:
    storage = open_storage(served.spec.cluster.storage, served.spec.name)
    body = {"inputs": "open a socket and listen"}
    expected = {number: served.ask(f"/models/labels@{number}", body).json() for number in (1, 2)}
    assert expected[1] != expected[2]
    with Load(lambda client: served.ask("/models/labels", body)) as load:
        for number in (2, 1, 2, 1, 2):
            set_alias(storage, "labels", "production", number, "test", "back and forth")
            time.sleep(4)
    assert load.failures == []
    seen = Counter(answer.headers["x-model-version"] for answer in load.answers)
    assert set(seen) == {"labels@1", "labels@2"}
    for answer in load.answers:
        number = int(answer.headers["x-model-version"].partition("@")[2])
        scores = {each["label"]: each["score"] for each in answer.json()[0]}
        wanted = {each["label"]: each["score"] for each in expected[number][0]}
        assert scores == pytest.approx(wanted, abs=1e-5)
    assert load.answers[-1].headers["x-model-version"] == "labels@2"


@pytest.mark.parametrize("size", [100, 40_000])
def test_a_killed_replica_costs_nothing(served: Served, size: int) -> None:
    body = {"inputs": "open a socket " * (size // 14)}
    deadline = time.monotonic() + 60
    while len(running(served, "labels")) < 2:  # the one that replaces the last that was killed
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with Load(lambda client: served.ask("/models/labels", body)) as load:
        time.sleep(2)
        os.kill(replica_pids(served, "labels")[0], signal.SIGKILL)
        time.sleep(8)
    assert load.failures == []
    assert len(load.answers) > 20


def running(served: Served, model: str) -> list[str]:
    """Replicas that Serve sends requests to."""
    found = api.get(served.connection, services.PATH)["applications"][model]["deployments"]
    [deployment] = found.values()
    return [each["replica_id"] for each in deployment["replicas"] if each["state"] == "RUNNING"]


def replica_pids(served: Served, model: str) -> list[int]:
    mark = local.home_of(served.spec).mark
    name = f"ray::ServeReplica:{model}:"
    return [p.pid for p in owned(mark) if name in " ".join(p.cmdline()[:1])]


def test_what_replicas_answered_is_counted_by_version(served: Served) -> None:
    before = counted(served, "films@1")
    for _ in range(3):
        assert served.ask("/models/films", {"inputs": {"history": ["film 1"]}}).status == 200
    deadline = time.monotonic() + 30
    while (found := counted(served, "films@1")) < before + 3:
        assert time.monotonic() < deadline, f"{before}, {found}"
        time.sleep(0.5)


def counted(served: Served, version: str) -> int:
    """Requests to a version's replicas, as `slipway status` is told of them."""
    found = served.ask("/status").json()["versions"]
    return int(found[version]["requests"]) if version in found else 0


def test_tokens_are_looked_at_again(served: Served) -> None:
    path = verbs.token_file_of(served.spec)
    with path.open("a") as file:
        file.write("guest guest-token-1 2/h\n")
    time.sleep(1.5)
    statuses = [
        ask(f"{served.url}/models/labels", {"inputs": "a"}, "guest-token-1").status
        for _ in range(6)
    ]
    assert statuses[0] == 200
    assert 429 in statuses


def test_one_model_stops_and_the_others_go_on(served: Served) -> None:
    assert verbs.stop(served.request, "nobody") == ELSEWHERE
    assert verbs.stop(served.request, "labels") == 0
    deadline = time.monotonic() + 60
    while served.ask("/models/labels", {"inputs": "a"}).status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    refused = served.ask("/models/labels", {"inputs": "a"})
    assert "models: writer, digits" in refused.json()["error"]["message"]
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 3}}
    assert served.ask("/models/writer", body).status == 200


def test_secrets_and_inputs_stay_out_of_the_logs(served: Served) -> None:
    served.ask("/models/writer", {"inputs": "a very private text"})
    assert served.connection.job_logs is not None
    logs = Path(served.connection.job_logs) / "serve"
    text = "".join(file.read_text(errors="replace") for file in logs.glob("*.log"))
    assert served.token not in text
    assert "very private" not in text

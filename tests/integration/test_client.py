"""The client and the README's examples against both servers, as deployed."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from faceoff import endpoints, golden, servables
from serving.client import AsyncClient
from tests.conftest import ROOT, roots

SERVERS = ("torchserve", "tfserving-embedded")


@pytest.fixture(scope="module")
def found(deployed):
    return {endpoint.server: endpoint for endpoint in endpoints.read(deployed, model="cnn")}


@pytest.fixture(scope="module")
def trained(deployed):
    return servables.read_trained(deployed, "cnn")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_async_client_gets_every_request_its_own_answer(found, trained, server, protocol):
    async def ask_all():
        async with AsyncClient(found[server], trained.signature, protocol=protocol) as client:

            async def ask(start):
                rows = trained.golden.rows(start, 1 + start % 3)
                answer = await client.predict(rows.inputs)
                return golden.compare(answer.outputs, rows.outputs, 1e-4).problem

            return await asyncio.gather(*(ask(start) for start in range(32)))

    assert asyncio.run(ask_all()) == [None] * 32


@pytest.fixture(scope="module")
def examples(deployed, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    assert run("serving.examples", "--out", str(folder), *roots(deployed)).code == 0
    return folder


def blocks(language):
    text = (ROOT / "README.md").read_text().partition("## Talking to the servers")[2].partition("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(name, found, examples):
    """The README's commands that begin with `name`, with the ports and the folder that this test has."""
    places = {
        "127.0.0.1:8501": found["tfserving-embedded"].rest_url.removeprefix("http://"),
        "127.0.0.1:8500": found["tfserving-embedded"].grpc_target,
        "127.0.0.1:8080": found["torchserve"].rest_url.removeprefix("http://"),
        "127.0.0.1:7070": found["torchserve"].grpc_target,
        "examples/": f"{examples}/",
    }
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith(name)]
    for old, new in places.items():
        lines = [line.replace(old, new) for line in lines]
    return lines


def shell(command):
    return subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=True).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_readmes_curl_commands_get_both_servers_answers(found, trained, examples):
    expected = trained.golden.rows(0, 2).outputs["logits"]
    lines = commands("curl ", found, examples)
    assert len(lines) == 2
    for line in lines:
        assert np.allclose(json.loads(shell(line))["predictions"], expected, atol=1e-4), line


def test_the_readmes_python_asks_every_endpoint(deployed, trained):
    (block,) = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", block],
        cwd=deployed.artifacts.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    classes = str(trained.golden.rows(0, 2).outputs["logits"].argmax(1))
    assert done.stdout.splitlines() == [f"{server} {protocol} {classes}" for server in SERVERS for protocol in ("rest", "grpc")]


@pytest.mark.skipif(shutil.which("grpcurl") is None, reason="grpcurl is not installed; the next test does what it does")
def test_the_readmes_grpcurl_commands_are_answered(found, examples):
    lines = commands("grpcurl ", found, examples)
    assert len(lines) == 2
    for line in lines:
        assert json.loads(shell(line)), line


@pytest.mark.parametrize("server", SERVERS)
def test_what_grpcurl_would_do_with_the_readmes_files_is_answered(found, trained, examples, server):
    """Method and files from the README's line; messages from the protoset alone, the request from the JSON."""
    import grpc

    name = "torchserve" if server == "torchserve" else "tfserving"
    (line,) = [line for line in commands("grpcurl ", found, examples) if f"{name}.json" in line]
    target, method = re.search(r"-d @ (\S+) (\S+) <", line).groups()
    service, _, call = method.rpartition("/")
    files = descriptor_pb2.FileDescriptorSet.FromString((examples / "faceoff.protoset").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    about = pool.FindServiceByName(service).FindMethodByName(call)
    request = message_factory.GetMessageClass(about.input_type)()
    json_format.Parse((examples / f"{name}.json").read_text(), request)
    with grpc.insecure_channel(target) as channel:
        body = channel.unary_unary(f"/{service}/{call}")(request.SerializeToString(), timeout=30.0)
    answer = message_factory.GetMessageClass(about.output_type).FromString(body)
    if name == "torchserve":
        logits = np.frombuffer(answer.prediction, "<f4").reshape(2, -1)
    else:
        logits = np.asarray(answer.outputs["logits"].float_val, np.float32).reshape(2, -1)
    assert np.allclose(logits, trained.golden.rows(0, 2).outputs["logits"], atol=1e-4)

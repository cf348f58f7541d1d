"""--ssl_config_file: TLS for gRPC; REST stays plain, as the real server's. (With the light engine: no model is tested.)"""

import json
import shutil
import subprocess

import grpc
import pytest

from serving import tfs_stubs as tfs
from tests.contract import serverproc
from tests.fakes.onnx_models import save_times

pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates"),
    pytest.mark.skipif(bool(serverproc.REAL), reason="with our own engine flag; TENSORFLOW_MODEL_SERVER is set"),
]


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Key and certificate of `server` and of `client`, each signed by itself, as PEM texts."""
    folder = tmp_path_factory.mktemp("tls")
    found = {}
    for name in ("server", "client"):
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
        found[name] = (key.read_bytes(), certificate.read_bytes())
    return found


def flags(folder, **fields):
    """Flags of a server with this SSLConfig."""
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in fields.items()]
    (folder / "ssl.config").write_text("".join(lines))
    save_times(folder / "m" / "1", 2.0)
    model = ["--model_name=m", f"--model_base_path={folder / 'm'}"]
    return ["--engine=onnxruntime", *model, f"--ssl_config_file={folder / 'ssl.config'}", "--max_num_load_retries=0"]


def status(channel):
    """Ask for the model's status; the state of its one version."""
    request = tfs.get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    stub = tfs.model_service_pb2_grpc.ModelServiceStub(channel)
    (version,) = stub.GetModelStatus(request, timeout=30).model_version_status
    return version.state


def secure(server, root, key=None, certificate=None):
    credentials = grpc.ssl_channel_credentials(root, key, certificate)
    return grpc.secure_channel(f"localhost:{server.port}", credentials, [("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.parametrize("transport", ["core", "aio"])
def test_a_client_must_speak_tls_and_know_the_certificate(pem, tmp_path, transport):
    key, certificate = pem["server"]
    given = flags(tmp_path, server_key=key.decode(), server_cert=certificate.decode())
    with serverproc.running([*given, f"--grpc_transport={transport}"], tmp_path, "m") as server:  # ready over plain REST
        with secure(server, certificate) as channel:
            assert status(channel) == tfs.get_model_status_pb2.ModelVersionStatus.AVAILABLE
        for channel in (server.channel(), secure(server, pem["client"][1])):
            with channel, pytest.raises(grpc.RpcError) as refused:
                status(channel)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("transport", ["core", "aio"])
def test_with_client_verify_a_client_must_show_a_certificate_that_is_trusted(pem, tmp_path, transport):
    (key, certificate), (client_key, client_certificate) = pem["server"], pem["client"]
    fields = {"server_key": key.decode(), "server_cert": certificate.decode(), "custom_ca": client_certificate.decode()}
    given = [*flags(tmp_path, **fields, client_verify=True), f"--grpc_transport={transport}"]
    with serverproc.running(given, tmp_path, "m") as server:
        with secure(server, certificate, client_key, client_certificate) as channel:
            assert status(channel) == tfs.get_model_status_pb2.ModelVersionStatus.AVAILABLE
        for shown in ((None, None), (key, certificate)):
            with secure(server, certificate, *shown) as channel, pytest.raises(grpc.RpcError) as refused:
                status(channel)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_file_without_a_key_is_one_clear_line(tmp_path):
    server = serverproc.spawn(flags(tmp_path, server_cert="x"), tmp_path)
    try:
        assert server.process.wait(timeout=60) == 255
        (line,) = [line for line in server.log.read_text().splitlines() if ": E " in line]
        assert "expected server_key and server_cert, each a PEM text" in line
    finally:
        serverproc.stop(server)
        server.log.unlink()

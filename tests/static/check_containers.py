"""`python -m tests.static.check_containers`, part of `make check`: Dockerfiles, YAML, rules and every Kubernetes overlay.

Each overlay, and each with the opt-in components over it, is rendered by kubectl (which talks to no cluster: KUBECONFIG is
/dev/null) and every object is validated strictly, at each Kubernetes of VERSIONS: an unknown field is an error, and so is a
kind that nothing here has a schema for. promtool is Debian's (package prometheus); without it that step says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
VERSIONS = ("1.31", "1.37")
OVERLAYS = ("cpu", "gpu", "local")
# Of an overlay of its own here: what needs the Prometheus operator or KEDA in the cluster, and the opt-in patch of gpu.
OPT_IN = ("monitoring", "autoscaling")
# What pods may ask for on a machine of 4 cores and 8 GiB (a kind node): Kubernetes' own ask for about one core of it.
ONE_MACHINE = (3.0, 6 * 2**30)
DOCKERFILES = (
    "serving/torchserve/Dockerfile",
    "serving/tfserving/Dockerfile",
    "serving/embedded/Dockerfile",
    "loadtest/Dockerfile",
    "tests/containers/prometheus.Dockerfile",
)
PROMETHEUS = ROOT / "serving" / "compose" / "prometheus"
BIN = Path(sys.executable).parent


def main() -> int:
    """Every problem on a line of its own on stderr; exit code 1 where there is one."""
    os.environ["KUBECONFIG"] = "/dev/null"
    problems = [*lint(), *rules(), *same_rules()]
    count = 0
    for name, documents in rendered():
        if name.startswith("overlays/"):  # with the monitors too, where they are opted in
            problems += same_resources(name, documents) + named_truly(name, documents)
        if name == "overlays/local":
            problems += fits_one_machine(documents)
        for document in documents:
            count += 1
            problems += [f"{name}: {describe(document)}: {problem}" for problem in invalid(document)]
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201
    print(f"check_containers: {count} Kubernetes objects at {' and '.join(VERSIONS)}, {len(problems)} problems", file=sys.stderr)  # noqa: T201
    return 1 if problems else 0


def lint() -> list[str]:
    """hadolint on the Dockerfiles, yamllint on our YAML."""
    dockerfiles = run([str(BIN / "hadolint"), "--no-color", *(str(ROOT / name) for name in DOCKERFILES)])
    settings = "{extends: default, rules: {document-start: disable, line-length: {max: 140}, braces: disable, comments: disable}}"
    return dockerfiles + run([str(BIN / "yamllint"), "--strict", "-f", "parsable", "-d", settings, "k8s", "serving/compose"])


def rules() -> list[str]:
    """promtool on the scrape configuration, the rules and their test."""
    if shutil.which("promtool") is None:
        print("check_containers: no promtool here (Debian: prometheus): the alert rules are not checked", file=sys.stderr)  # noqa: T201
        return []
    return run(["promtool", "check", "config", str(PROMETHEUS / "prometheus.yml")]) + run(
        ["promtool", "test", "rules", str(PROMETHEUS / "rules_test.yml")]
    )


def same_rules() -> list[str]:
    """The PrometheusRule of Kubernetes holds the rules of Compose."""
    ours = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())
    theirs = yaml.safe_load((ROOT / "k8s/components/monitoring/rules.yaml").read_text())["spec"]
    return [] if ours == theirs else ["k8s/components/monitoring/rules.yaml: differs from serving/compose/prometheus/rules.yml"]


def same_resources(name: str, documents: list[dict[str, Any]]) -> list[str]:
    """Both servers have the same resources, or a comparison would be unfair."""
    servers = [d for d in documents if d["kind"] == "Deployment" and d["metadata"]["labels"].get("faceoff/role") == "server"]
    found = [server["spec"]["template"]["spec"]["containers"][0]["resources"] for server in servers]
    return [] if len(found) == 2 and found[0] == found[1] else [f"{name}: the servers' resources differ: {found}"]


def named_truly(name: str, documents: list[dict[str, Any]]) -> list[str]:
    """A pod says in its label which image answers, and metrics go by that: ours are never taken for TensorFlow Serving's."""
    problems = []
    for document in documents:
        if document["kind"] == "Deployment" and document["metadata"].get("labels", {}).get("faceoff/role") == "server":
            template = document["spec"]["template"]
            label, image = template["metadata"]["labels"].get("faceoff/server"), template["spec"]["containers"][0]["image"]
            if label != image.rpartition(":")[0].rpartition("/")[2]:
                problems.append(f"{name}: {describe(document)}: its metrics would name {label}, its image is {image}")
        for endpoint in document["spec"]["endpoints"] if document["kind"] == "ServiceMonitor" else []:
            rules = [rule for rule in endpoint["relabelings"] if rule["targetLabel"] == "server"]
            if rules != [{"sourceLabels": ["__meta_kubernetes_pod_label_faceoff_server"], "targetLabel": "server"}]:
                problems.append(f"{name}: {describe(document)}: `server` is not the pod's label: {rules}")
    return problems


def fits_one_machine(documents: list[dict[str, Any]]) -> list[str]:
    """In the overlay local all pods are scheduled on one machine, and none pulls an image."""
    pods = {describe(d): d["spec"]["template"]["spec"] for d in documents if d["kind"] == "Deployment"}
    asked = [sum(resources) for resources in zip(*map(requests, pods.values()), strict=True)]
    too_much = [f"overlays/local: pods ask for {asked}, expected at most {ONE_MACHINE}"]
    pulled = [
        f"overlays/local: {name}: {container['name']} may pull its image"
        for name, pod in pods.items()
        for container in [*pod.get("initContainers", []), *pod["containers"]]
        if container.get("imagePullPolicy") != "Never"
    ]
    return pulled + (too_much if any(found > limit for found, limit in zip(asked, ONE_MACHINE, strict=True)) else [])


def requests(pod: dict[str, Any]) -> tuple[float, float]:
    """Cores and bytes that the scheduler counts for a pod: the most of its init containers, or all of its containers."""

    def asked(container: dict[str, Any], kind: str) -> float:
        number, unit = re.fullmatch(r"(\d+)(m|Mi|Gi|)", container["resources"]["requests"][kind]).groups()  # type: ignore[union-attr]
        return int(number) * {"": 1.0, "m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}[unit]

    first, then = pod.get("initContainers", []), pod["containers"]
    cpu, memory = (max([sum(asked(c, kind) for c in then), *(asked(c, kind) for c in first)]) for kind in ("cpu", "memory"))
    return cpu, memory


def rendered() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The load Job, and each overlay, alone and with everything that is opt-in."""
    yield "base/locust", kustomize(ROOT / "k8s" / "base" / "locust")
    for overlay in OVERLAYS:
        yield f"overlays/{overlay}", kustomize(ROOT / "k8s" / "overlays" / overlay)
        with tempfile.TemporaryDirectory(dir=ROOT / "k8s") as folder:
            document: dict[str, Any] = {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "faceoff",
                "resources": [f"../overlays/{overlay}"],
                "components": [f"../components/{name}" for name in OPT_IN],
            }
            if overlay == "gpu":
                shutil.copy(ROOT / "k8s/overlays/gpu/runtime-class.yaml", folder)
                target = {"kind": "Deployment", "labelSelector": "faceoff/role=server"}
                document["patches"] = [{"path": "runtime-class.yaml", "target": target}]
            (Path(folder) / "kustomization.yaml").write_text(yaml.safe_dump(document))
            yield f"overlays/{overlay} with {', '.join(OPT_IN)}", kustomize(Path(folder))


def kustomize(folder: Path) -> list[dict[str, Any]]:
    """The objects of one kustomization."""
    done = subprocess.run([str(BIN / "kubectl"), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"check_containers: {folder}: {done.stderr.strip()}")
    return list(yaml.safe_load_all(done.stdout))


def invalid(document: dict[str, Any]) -> list[str]:
    """What is wrong with one object: by the API's own schema at each version, or by the operator's model of it."""
    import kubernetes_validate

    if (kind := (document["apiVersion"], document["kind"])) in custom_kinds():
        return against_model(document, custom_kinds()[kind]())
    problems = []
    for version in VERSIONS:
        try:
            used = kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            problems.append(f"Kubernetes {version}: nothing here has a schema for {'/'.join(kind)}")
        except kubernetes_validate.ValidationError as error:
            problems.append(f"Kubernetes {version}: {error.message}")
        else:
            if used != version:
                problems.append(f"validated at {used} instead of {version}")
    return problems


def custom_kinds() -> dict[tuple[str, str], Callable[[], Any]]:
    """The custom resources used here; imported when one is met."""

    def operator(name: str) -> Callable[[], Any]:
        def load() -> Any:
            from cloudcoil.models.prometheus_operator import v1

            return getattr(v1, name)

        return load

    def keda() -> Any:
        from cloudcoil.models.keda import v1alpha1

        return v1alpha1.ScaledObject

    return {
        ("monitoring.coreos.com/v1", "ServiceMonitor"): operator("ServiceMonitor"),
        ("monitoring.coreos.com/v1", "PrometheusRule"): operator("PrometheusRule"),
        ("keda.sh/v1alpha1", "ScaledObject"): keda,
    }


def against_model(document: dict[str, Any], model: Any) -> list[str]:
    """The model refuses wrong types and lacks; a field it does not know it drops, which is found by looking again."""
    import pydantic

    try:
        kept = model.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except pydantic.ValidationError as error:
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return [f"unknown field {path}" for path in dropped(document, kept)]


def dropped(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    """Paths of `given` that `kept` has not."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key not in kept:
                yield f"{path}.{key}"
            else:
                yield from dropped(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list) and isinstance(kept, list):
        for index, (one, other) in enumerate(zip(given, kept, strict=False)):
            yield from dropped(one, other, f"{path}[{index}]")


def describe(document: dict[str, Any]) -> str:
    """Kind and name."""
    return f"{document['kind']} {document['metadata']['name']}"


def run(argv: list[str]) -> list[str]:
    """The output lines of a tool that is not content."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).strip().splitlines() or [f"{argv[0]} failed"]


if __name__ == "__main__":
    raise SystemExit(main())

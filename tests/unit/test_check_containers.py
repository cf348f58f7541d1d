"""The check of `make check` finds what it is there for."""

import pytest

from tests.static import check_containers as check

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
SCALED = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "s"},
    "spec": {"scaleTargetRef": {"name": "d"}, "triggers": [{"type": "prometheus", "metadata": {"query": "up"}}]},
}


def test_a_good_object_passes_at_every_version():
    assert check.invalid(POD) == []
    assert check.invalid(SCALED) == []


def test_an_unknown_field_is_found_at_every_version():
    bad = {**POD, "spec": {**POD["spec"], "hostnam": "x"}}
    assert len(check.invalid(bad)) == len(check.VERSIONS)


def test_a_kind_without_a_schema_is_a_problem_and_not_skipped():
    assert "nothing here has a schema" in check.invalid({**POD, "kind": "Pood"})[0]


def test_a_custom_kinds_unknown_field_and_wrong_type_are_found():
    assert check.invalid({**SCALED, "spec": {**SCALED["spec"], "maxReplicas": 3}}) == ["unknown field .spec.maxReplicas"]
    assert "maxReplicaCount" in check.invalid({**SCALED, "spec": {**SCALED["spec"], "maxReplicaCount": "many"}})[0]


def test_different_resources_are_found():
    def server(name: str, cpu: str) -> dict:
        container = {"name": name, "resources": {"limits": {"cpu": cpu}}}
        labels = {"faceoff/role": "server"}
        template = {"spec": {"containers": [container]}}
        return {"kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": {"template": template}}

    assert check.same_resources("o", [server("torchserve", "2"), server("tfserving", "2")]) == []
    assert "differ" in check.same_resources("o", [server("torchserve", "2"), server("tfserving", "1")])[0]


def rendered(overlay: str) -> list[dict]:
    return check.kustomize(check.ROOT / "k8s" / "overlays" / overlay)


def test_the_local_overlay_fits_a_machine_of_four_cores_and_never_pulls():
    assert check.fits_one_machine(rendered("local")) == []
    problems = check.fits_one_machine(rendered("cpu"))
    assert "pods ask for [4.05," in problems[-1]
    assert "overlays/local: Deployment models: models may pull its image" in problems


def test_a_pod_asks_for_the_most_of_its_init_containers_or_for_all_of_its_containers():
    def container(cpu: str, memory: str) -> dict:
        return {"resources": {"requests": {"cpu": cpu, "memory": memory}}}

    init = [container("2", "64Mi"), container("250m", "3Gi")]
    both = [container("500m", "1Gi"), container("1", "1Gi")]
    assert check.requests({"containers": both}) == (1.5, 2 * 2**30)
    assert check.requests({"initContainers": init, "containers": both}) == (2.0, 3 * 2**30)


@pytest.mark.parametrize("overlay", check.OVERLAYS)
def test_metrics_name_the_server_whose_image_answers(overlay):
    documents = rendered(overlay)
    assert check.named_truly("o", documents) == []
    for document in documents:
        if document["kind"] == "Deployment":
            document["spec"]["template"]["metadata"]["labels"]["faceoff/server"] = "tfserving-gone"
    assert len(check.named_truly("o", documents)) == 2
    monitor = {"relabelings": [{"targetLabel": "server", "replacement": "tfserving"}]}
    fixed = {"kind": "ServiceMonitor", "metadata": {"name": "m"}, "spec": {"endpoints": [monitor]}}
    assert "not the pod's label" in check.named_truly("o", [fixed])[0]

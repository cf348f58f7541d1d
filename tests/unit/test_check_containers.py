"""The check of `make check` finds what it is there for."""

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

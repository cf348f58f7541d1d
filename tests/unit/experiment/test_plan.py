"""experiment.plan: what is visited, in which order."""

from collections import Counter

import pytest

from experiment import plan
from faceoff import presets
from faceoff.errors import UsageError

SERVERS = ["torchserve", "tfserving-embedded"]


@pytest.mark.parametrize("name", ["smoke", "quick", "full"])
def test_every_profile_is_whole_and_its_load_exists(name):
    profile = plan.profile(name)
    assert presets.load_profile(profile.load).requests_per_window >= presets.load_profile("quick").requests_per_window


def test_an_unknown_profile_is_the_users_mistake():
    with pytest.raises(UsageError, match="unknown profile 'fast': expected one of full, quick, smoke"):
        plan.profile("fast")


def test_each_kind_is_visited_once_in_each_block():
    profile = plan.profile("quick")
    visits = plan.visits(SERVERS, profile, seed=1)
    assert [visit.order for visit in visits] == list(range(1, 16))
    kinds = Counter((v.server, v.tuning, v.role, v.repeat) for v in visits)
    assert set(kinds.values()) == {1}
    assert [v.repeat for v in visits] == sorted(v.repeat for v in visits)
    assert {(v.server, v.tuning) for v in visits if v.role == "aa"} == {("tfserving-embedded", "default")}
    assert len({v.id for v in visits}) == 15


def test_the_order_is_drawn_from_the_seed():
    profile = plan.profile("quick")
    assert plan.visits(SERVERS, profile, 1) == plan.visits(SERVERS, profile, 1)
    orders = {tuple((v.server, v.tuning, v.role) for v in plan.visits(SERVERS, profile, seed)) for seed in range(20)}
    assert len(orders) == 20
    firsts = Counter(plan.visits(SERVERS, profile, seed)[0].server for seed in range(100))
    assert min(firsts.values()) > 20


def test_the_space_has_settings_of_the_server_itself():
    assert plan.space("torchserve")["workers"] == {"2": {"workers": 2}}
    assert plan.space("torchserve")["allocator"]["None"] == {"allocator": None}
    assert plan.space("tfserving-embedded")["onednn"]["off"] == {"environment": {"TF_ENABLE_ONEDNN_OPTS": 0}}
    assert plan.space("unheard-of") == {}


@pytest.mark.parametrize("server", ["torchserve", "tfserving-embedded", "tfserving"])
def test_every_alternative_of_the_space_is_accepted_by_its_server_and_computes_in_float32(server):
    from export import formats
    from serving.servers import server_class

    kind = server_class(server)
    precisions = {row.format: row.precision for row in formats.FORMATS}
    for alternatives in plan.space(server).values():
        for settings in alternatives.values():
            found = kind.settings("tuned", {**settings, "warmup_requests": 0})
            assert found["overrides"] == {**settings, "warmup_requests": 0}
            assert precisions[kind.servable_format(found)] == "float32"


def test_a_visit_with_a_slow_server_takes_longer():
    profile, load = plan.profile("quick"), presets.load_profile("compare-quick")
    assert plan.load_seconds(load, profile, 300.0, 150.0) > plan.load_seconds(load, profile, 3000.0, 150.0) > 10.0

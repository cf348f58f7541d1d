"""experiment.plan: what is visited, in which order."""

from collections import Counter

import pytest

from experiment import plan, wide
from faceoff import presets
from faceoff.errors import UsageError

SERVERS = ["torchserve", "tfserving-embedded"]


@pytest.mark.parametrize("name", ["smoke", "quick", "hour", "full"])
def test_every_profile_is_whole_and_its_load_exists(name):
    profile = plan.profile(name)
    assert presets.load_profile(profile.load).requests_per_window >= presets.load_profile("quick").requests_per_window


def test_an_unknown_profile_is_the_users_mistake():
    with pytest.raises(UsageError, match="unknown profile 'fast': expected one of full, hour, quick, smoke"):
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


def test_one_wide_visit_of_each_server_and_tuning_comes_after_all_others_as_installed_first():
    profile = plan.profile("quick")
    wide = plan.wide_visits(SERVERS, profile, seed=1)
    assert [visit.order for visit in wide] == [16, 17, 18, 19]
    assert [visit.tuning for visit in wide] == ["default", "default", "best", "best"]
    assert {(visit.server, visit.tuning) for visit in wide} == {(s, t) for s in SERVERS for t in plan.TUNINGS}
    assert not {visit.id for visit in wide} & {visit.id for visit in plan.visits(SERVERS, profile, seed=1)}


def test_a_sweep_holds_the_common_rates_and_its_own_knee():
    assert wide.rates(1000.0, 1000.0) == (250.0, 500.0, 600.0, 750.0, 800.0, 950.0, 1100.0)
    assert wide.rates(1000.0, 4000.0) == (250.0, 500.0, 750.0, 2400.0, 3200.0, 3800.0, 4400.0)
    load = presets.load_profile("compare-quick")
    one, both = (wide.seconds(load, 300.0, own) for own in ({"rest": 300.0}, {"rest": 300.0, "grpc": 900.0}))
    assert 10.0 < one < both


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

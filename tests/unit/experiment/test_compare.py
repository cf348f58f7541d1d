"""experiment.compare: the steps of the experiment, with visits that are made up; real ones are in tests/integration."""

import dataclasses
import itertools
import json
import time
import zlib
from types import SimpleNamespace

import pytest

from experiment import compare, plan, steps
from experiment.steps import Experiment
from experiment.visit import Bench, Visited
from faceoff.errors import FaceoffError, StageError, UsageError
from faceoff.store import Store
from serving import state
from serving.owned import Owned
from serving.protocols import ENCODINGS
from tests.fakes import records
from tests.unit.experiment.test_fairness import FAIR
from tests.unit.faceoff.test_endpoints import endpoint

SERVERS = ["torchserve", "tfserving-embedded"]
RPS = {"torchserve": 500.0, "tfserving-embedded": 800.0}


class MadeUp(Bench):
    """Visits without a server: torchserve is slower, and better with two workers."""

    log: list
    more: dict
    proven: dict

    def visit(self, name, server, *, tuning, overrides, load, more=None, model=None, proven=()):
        self.log.append((name, server, tuning, dict(overrides), load))
        self.more[name] = dict(more or {})
        self.proven[name] = tuple(proven)
        folder = self.folder / name
        (folder / "samples").mkdir(parents=True)
        (folder / "parity.json").write_text(json.dumps({"checks": [{"server": server}], "test_sets": [], "num_rows": 128}))
        rps = RPS[server] * (1.5 if overrides.get("workers") == 2 else 1.0)
        found = []
        ways = itertools.product(self.protocols, load.encodings or ("json",), load.scenarios.split(","))
        for number, (protocol, encoding, scenario) in enumerate(ways):
            seed = zlib.crc32(name.encode()) + number
            m = records.measurement(folder, server, protocol, encoding, scenario, rps, 1000 / rps, seed)
            search = {"max_qps": 0.9 * rps, "bracket": [0.9 * rps, rps]} if scenario == "max_qps" else None
            if scenario == "server":
                m["load"] = {"kind": "rate", "value": load.rate}
            found.append(
                {
                    **m,
                    "encode_us": 50.0,
                    "decode_us": 30.0,
                    "search": search,
                    "server_use": {"cpu_us_per_request": 1e6 / rps, "rss_bytes": 10},
                }
            )
        self.spoil(name, found)
        summary = {"measurements": found, "config": {}, "calibration": None}
        return Visited(folder=folder, endpoint=endpoint(server), facts=self.facts(name, server), summary=summary)

    def spoil(self, name, found):
        """Nothing is wrong."""

    def facts(self, name, server):
        return FAIR

    def stop(self):
        pass


def turns(made):
    """The visits that are compared, as the bench saw them."""
    return [entry for entry in made.bench.log if entry[0].startswith("visits/") and not entry[0].endswith("-wide")]


def experiment(tmp_path, kind=MadeUp, *, seed=1):
    folder = tmp_path / "compare"
    folder.mkdir()
    bench = kind(store=Store(artifacts=tmp_path / "a"), model="cnn", device="cpu", protocols=("rest", "grpc"), folder=folder)
    bench.log, bench.more, bench.proven = [], {}, {}
    profile = dataclasses.replace(plan.profile("quick"), budget_s=None)
    return Experiment(bench=bench, profile=profile, servers=SERVERS, seed=seed, prices=None)


@pytest.fixture(autouse=True)
def no_export_and_no_floors(monkeypatch):
    exported = {"cnn.mar": SimpleNamespace(format="mar-eager")}
    monkeypatch.setattr(steps.servables, "read_exported", lambda store, model, version: (None, None, exported))
    monkeypatch.setattr(steps.floors, "measure", lambda *_: steps.floors.Floors(short=["no floors: PROFILE=full"]))


def test_the_steps_in_order_and_what_they_write(tmp_path):
    made = experiment(tmp_path)
    made.run()
    sentences, reasons = made.write("compare", {"seed": 1})
    assert reasons == []
    assert len(sentences) == 5 * 2 * (2 + 1)
    names = [entry[0] for entry in made.bench.log]
    assert [name.split("/")[0] for name in names] == ["capacity"] * 2 + ["tuning"] * 6 + ["visits"] * (15 + 4)
    # a part of the lowest capacity, the same for every server and tuning
    assert {entry[4].rate for entry in turns(made)} == {300.0}
    assert [entry[2] for entry in made.bench.log[2:8]] == ["tuned"] * 6
    # every encoding is proven once a server; other visits prove what they load
    assert {name for name, proven in made.bench.proven.items() if proven == ENCODINGS} == {f"capacity/{s}" for s in SERVERS}
    assert {proven for name, proven in made.bench.proven.items() if not name.startswith("capacity/")} == {()}
    record = json.loads((tmp_path / "compare" / "compare.json").read_text())
    summary = json.loads((tmp_path / "compare" / "summary.json").read_text())
    assert record["valid"] and record["seed"] == 1 and len(record["visits"]) == 15 + 4
    assert record["failed"] == []
    assert {len(trials) for trials in record["tuning"].values()} == {3}
    assert len(summary["measurements"]) == 15 * 2 * 3 + 4 * 2 * len(ENCODINGS)
    for measurement in summary["measurements"]:
        assert (tmp_path / "compare" / measurement["samples"]).is_file()
    assert all("PROFILE=full" in sentence for sentence in record["plan"]["short"])
    assert len(record["plan"]["short"]) == 1 + 1
    (cpu,) = [
        c
        for c in summary["comparisons"]
        if (c["metric"], c["tuning"], c["kind"], c["protocol"]) == ("cpu_us_per_request", "default", "ab", "rest")
    ]
    assert cpu["ratio"] == pytest.approx(800 / 500)


def test_the_best_visits_have_the_winners_settings(tmp_path):
    made = experiment(tmp_path)
    made.run()
    for server in SERVERS:
        winner = max(made.trials[server], key=lambda trial: trial.value)
        best = [entry for entry in made.bench.log if f"-{server}-best" in entry[0]]
        assert len(best) == 3 + 1
        assert all(entry[2:4] == ("tuned", winner.settings) for entry in best)
        default = [entry for entry in made.bench.log if f"-{server}-default" in entry[0]]
        assert all(entry[2:4] == ("default", {}) for entry in default)


def test_both_servers_of_a_repeat_get_the_same_requests(tmp_path):
    made = experiment(tmp_path, seed=10)
    made.run()
    seeds = {}
    for done, entry in zip(made._turns, turns(made), strict=True):
        seeds.setdefault(done.visit.repeat, set()).add(entry[4].seed)
    assert seeds == {1: {11}, 2: {12}, 3: {13}}


def test_what_would_not_end_in_time_is_left_out_of_whole_blocks_and_said(tmp_path):
    made = experiment(tmp_path)
    made.profile = dataclasses.replace(made.profile, budget_s=1e-3)
    made.run()
    scenarios = {}
    for done, entry in zip(made.done, turns(made), strict=True):
        scenarios.setdefault(done.visit.repeat, set()).add(entry[4].scenarios)
    assert scenarios == {1: {"closed,server"}, 2: {"closed,server"}, 3: {"closed,server"}}
    assert sum("max_qps left out of repeat" in sentence and "PROFILE=full" in sentence for sentence in made.short) == 3
    assert sum("sweep and encodings" in sentence and "PROFILE=full" in sentence for sentence in made.short) == 2
    _, reasons = made.write("compare", {})
    assert reasons == []
    assert sum("No verdict on highest rate within the SLO" in sentence for sentence in made.short) == 2 * (2 + 1)


def test_a_block_has_max_qps_where_the_blocks_after_it_have_the_time_they_need_without(tmp_path):
    made = experiment(tmp_path)
    made.run()
    block_s = made._expected([done.visit for done in made._turns if done.visit.repeat == 1])
    assert block_s[steps.SCENARIOS] > block_s[steps.WITHOUT_SEARCH] > 0
    block_s = {steps.SCENARIOS: 30.0, steps.WITHOUT_SEARCH: 10.0}
    made.profile = dataclasses.replace(made.profile, budget_s=1000.0)
    made.started = time.monotonic() - 940  # 60 s are left
    assert [made._affordable(repeat, block_s) for repeat in (1, 2, 3)] == [steps.SCENARIOS] * 3
    made.started -= 15
    found = [made._affordable(repeat, block_s) for repeat in (1, 2, 3)]
    assert found == [steps.WITHOUT_SEARCH, steps.SCENARIOS, steps.SCENARIOS] and made.left_out == {"max_qps": [1]}


def test_a_figure_that_enough_visits_measured_is_missed_although_others_had_no_time_for_it(tmp_path):
    class Slow(MadeUp):  # never within its SLO
        def visit(self, name, server, **kwargs):
            visited = super().visit(name, server, **kwargs)
            for m in visited.measurements:
                if m["scenario"] == "max_qps":
                    m["valid"] = False
            return visited

    made = experiment(tmp_path, Slow)
    made.run()
    made.left_out = {"max_qps": [3]}  # two of three visits measured it
    _, reasons = made.write("compare", {})
    assert sum("No verdict on highest rate within the SLO" in reason for reason in reasons) == 2 * (2 + 1)


def test_the_wide_visits_sweep_to_beyond_the_knee_and_send_every_encoding(tmp_path):
    made = experiment(tmp_path)
    made.run()
    wide = [entry for entry in made.bench.log if entry[0].endswith("-wide")]
    assert sorted((entry[1], entry[2]) for entry in wide) == sorted(
        (server, tuning) for server in SERVERS for tuning in ("default", "tuned")
    )
    for name, _, _, _, load in wide:
        assert (load.scenarios, load.encodings, load.rate) == ("closed", ENCODINGS, None)
        for protocol, sweep in ((p, made.bench.more[name][f"sweep-{p}"]) for p in ("rest", "grpc")):
            assert (sweep.scenarios, sweep.protocols, sweep.encodings) == ("sweep", (protocol,), ())
            assert set(sweep.rates) >= {125.0, 250.0, 375.0}  # of 500, which is the lowest capacity
    best = made.bench.more[next(entry[0] for entry in wide if entry[1:3] == ("tfserving-embedded", "default"))]
    assert max(best["sweep-rest"].rates) == pytest.approx(1.1 * 800)
    made.write("compare", {})
    record = json.loads((tmp_path / "compare" / "compare.json").read_text())
    assert {visit["repeat"] for visit in record["visits"] if visit["role"] == "wide"} == {0}


def test_what_a_wide_visit_is_given_makes_no_verdict_and_no_unfairness(tmp_path):
    class Odd(MadeUp):
        def facts(self, name, server):
            return {**FAIR, "encoding": ["everything"]} if name.endswith("-wide") else FAIR

    made = experiment(tmp_path, Odd)
    made.run()
    sentences, reasons = made.write("compare", {})
    assert reasons == [] and len(sentences) == 5 * 2 * (2 + 1)


def test_a_visit_that_fails_once_is_tried_again(tmp_path):
    class Slips(MadeUp):
        def visit(self, name, server, **kwargs):
            if name.startswith(("capacity/torchserve", "visits/02-")):
                folder = self.folder / name
                if not folder.with_name(f"{folder.name}-failed").exists():
                    folder.mkdir(parents=True)
                    raise StageError("the port was taken")
            return super().visit(name, server, **kwargs)

    made = experiment(tmp_path, Slips)
    made.run()
    assert made.failed == [] and len(made.done) == 15 + 4
    assert len(list((tmp_path / "compare" / "visits").glob("02-*-failed"))) == 1


def test_a_visit_that_fails_twice_is_left_out_and_said(tmp_path, capsys):
    class Fails(MadeUp):
        def visit(self, name, server, **kwargs):
            if name.startswith("visits/02-"):
                (self.folder / name).mkdir(parents=True)
                raise StageError("torchserve ended with exit code 1 while starting")
            return super().visit(name, server, **kwargs)

    made = experiment(tmp_path, Fails)
    made.run()
    _, reasons = made.write("compare", {})
    assert reasons == [] and len(made.done) == 14 + 4  # two visits a side can still be compared
    (failed,) = json.loads((tmp_path / "compare" / "compare.json").read_text())["failed"]
    assert failed["order"] == 2 and failed["reason"] == "torchserve ended with exit code 1 while starting"
    assert "failed twice and is left out" in capsys.readouterr().err


def test_three_failed_visits_in_a_row_end_it(tmp_path):
    class Broken(MadeUp):
        def visit(self, name, server, **kwargs):
            if name.startswith("visits/") and not name.startswith(("visits/01-", "visits/03-")):
                (self.folder / name).mkdir(parents=True)
                raise StageError("no memory left")
            return super().visit(name, server, **kwargs)

    made = experiment(tmp_path, Broken)
    with pytest.raises(FaceoffError, match="3 visits in a row failed, the last one because: no memory left"):
        made.run()
    assert [visit.order for visit, _ in made.failed] == [2, 4, 5, 6]


def test_a_planted_unfairness_makes_the_run_invalid(tmp_path):
    class Unfair(MadeUp):
        def facts(self, name, server):
            return {**FAIR, "cores": [0, 1]} if server == "torchserve" and "best" in name else FAIR

    made = experiment(tmp_path, Unfair)
    made.run()
    _, reasons = made.write("compare", {})
    assert len(reasons) == 1 and reasons[0].startswith("fairness (best): cores differs")
    assert json.loads((tmp_path / "compare" / "compare.json").read_text())["valid"] is False


def test_a_trial_that_does_not_start_is_spent_and_the_experiment_goes_on(tmp_path):
    class Fragile(MadeUp):
        def visit(self, name, server, **kwargs):
            if name == "tuning/torchserve-02":
                raise StageError("torchserve ended with exit code 1 while starting")
            return super().visit(name, server, **kwargs)

    made = experiment(tmp_path, Fragile)
    made.run()
    bad = made.trials["torchserve"][1]
    assert not bad.valid and bad.reasons == ["torchserve ended with exit code 1 while starting"]
    assert len(made.trials["torchserve"]) == 3 and len(made.done) == 15 + 4


def test_an_invalid_trial_has_a_second_chance_and_no_third(tmp_path):
    class Disturbed(MadeUp):
        def spoil(self, name, found):
            if name in ("tuning/torchserve-01", "tuning/torchserve-03", "tuning/torchserve-03-again"):
                found[0]["invalid_reasons"] = ["window 2 stayed flagged"]

    made = experiment(tmp_path, Disturbed)
    made.run()
    assert [trial.valid for trial in made.trials["torchserve"]] == [True, True, False]
    names = [entry[0] for entry in made.bench.log if entry[0].startswith("tuning/torchserve")]
    assert names == [f"tuning/torchserve-{name}" for name in ("01", "01-again", "02", "03", "03-again")]


def test_invalid_measurements_cost_repeats_and_then_the_verdict(tmp_path):
    class Noisy(MadeUp):
        def spoil(self, name, found):
            for m in found:
                if "tfserving-embedded-default" in name and m["scenario"] == "closed":
                    m["valid"] = name.startswith("visits/") and m["protocol"] == "grpc"

    made = experiment(tmp_path, Noisy)
    made.run()
    _, reasons = made.write("compare", {})
    assert len(reasons) == 2  # throughput over rest: of the pair, and of the server with itself
    assert all("throughput" in reason and "VALID" in reason for reason in reasons)


def test_a_server_that_answers_nothing_ends_it(tmp_path):
    class Dead(MadeUp):
        def spoil(self, name, found):
            for m in found:
                m["throughput_rps"] = 0.0

    with pytest.raises(FaceoffError, match="answered nothing over rest as installed"):
        experiment(tmp_path, Dead).run()


def test_a_failure_keeps_what_was_measured_beside_the_run(tmp_path, capsys):
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare" / "summary.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), compare._folder(tmp_path / "compare") as folder:
        (folder / "visits").mkdir()
        raise KeyboardInterrupt
    assert (tmp_path / "compare" / "summary.json").read_text() == "old"
    assert (tmp_path / "compare.partial" / "visits").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare", "compare.partial"]
    assert "compare.partial" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--profile", "fast"], "unknown profile 'fast'"),
        (["--servers", "torchserve"], "at least two servers"),
        (["--protocols", "soap"], "unknown protocol 'soap': expected one of grpc, rest (set PROTOCOLS=...)"),
        (["--model", "cn"], "unknown model 'cn'"),
        (["--prices", "none.yaml"], "PRICES=none.yaml"),
        (["--run", "../x"], "run name '../x'"),
    ],
)
def test_mistakes_end_in_one_line_and_start_nothing(tmp_path, capsys, args, words):
    roots = ["--artifacts", str(tmp_path / "a"), "--results", str(tmp_path / "r")]
    assert compare.main([*args, *roots]) == 2
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["status"] == "usage" and words in result["error"]
    assert list(tmp_path.iterdir()) == []


def test_servers_of_another_deploy_are_left_alone(tmp_path):
    store = Store(artifacts=tmp_path / "a", results=tmp_path / "r")
    state.write(store, [Owned(server="torchserve", pid=1, started="", log="")])
    with pytest.raises(UsageError, match="run make undeploy first"):
        compare.compare(compare_arguments(tmp_path))
    assert (store.deploy_dir / "state.json").exists()


def compare_arguments(tmp_path):
    import argparse

    names = {"model": "cnn", "servers": "torchserve,tfserving-embedded", "protocols": "rest", "profile": "quick", "seed": 1}
    return argparse.Namespace(**names, device="cpu", prices=None, run="compare", artifacts=tmp_path / "a", results=tmp_path / "r")

"""experiment.tuning: the trials of a search, with servers that are a table."""

import json

import pytest

from experiment import tuning
from experiment.tuning import AS_TUNED, Outcome

SPACE = {
    "workers": {"2": {"workers": 2}, "4": {"workers": 4}},
    "threads": {"1": {"flags": {"intra": 1}}},
    "onednn": {"off": {"flags": {"onednn": 0}}},
}


def search(measure, *, trials=6, seed=1, space=SPACE):
    return tuning.search("torchserve", space, trials=trials, seed=seed, measure=measure)


def worth(number, settings):
    return Outcome(value=100.0 + 50 * (settings.get("workers") == 4) + 10 * ("flags" in settings))


def test_the_first_trial_is_the_preset_and_none_is_spent_twice():
    trials = search(worth)
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5, 6]
    assert trials[0].settings == {} and trials[0].name == AS_TUNED
    assert len({tuple(trial.choices.values()) for trial in trials}) == 6


def test_a_seed_repeats_the_search():
    assert search(worth, seed=3) == search(worth, seed=3)
    assert search(worth, seed=3) != search(worth, seed=4)


def test_the_whole_space_is_searched_when_there_are_trials_enough_and_the_best_wins():
    trials = search(worth, trials=100)
    assert len(trials) == 3 * 2 * 2
    best = tuning.winner(trials)
    assert best.value == 160.0 and best.settings["workers"] == 4


def test_an_invalid_trial_is_spent_and_never_wins():
    def measure(number, settings):
        return (
            Outcome(value=None, reasons=["window 2 stayed flagged"]) if settings.get("workers") == 4 else worth(number, settings)
        )

    trials = search(measure, trials=100)
    bad = [trial for trial in trials if not trial.valid]
    assert len(bad) == 4 and all(trial.value is None and trial.reasons for trial in bad)
    assert tuning.winner(trials).settings.get("workers") != 4


def test_without_a_valid_trial_the_preset_stays():
    trials = search(lambda number, settings: Outcome(value=None, reasons=["busy"]), trials=3)
    assert tuning.winner(trials).settings == {}


def test_tables_of_one_name_are_merged():
    choices = {"workers": AS_TUNED, "threads": "1", "onednn": "off"}
    assert tuning.merged(SPACE, choices) == {"flags": {"intra": 1, "onednn": 0}}


def test_an_archive_that_was_not_exported_is_not_offered():
    space = {"artifact": {"onnx": {"artifact": "onnx"}, "pt2": {"artifact": "pt2"}}, "workers": {"2": {"workers": 2}}}
    assert tuning.offered("torchserve", space, {"mar-eager", "mar-pt2"}) == {
        "artifact": {"pt2": {"artifact": "pt2"}},
        "workers": space["workers"],
    }
    assert tuning.offered("torchserve", space, {"mar-eager"}) == {"workers": space["workers"]}


def test_the_trials_are_kept_in_a_file(tmp_path):
    trials = search(worth, trials=3)
    tuning.write(tmp_path / "torchserve.json", "torchserve", 1, trials)
    record = json.loads((tmp_path / "torchserve.json").read_text())
    assert record["winner"] == tuning.winner(trials).number
    assert [trial["value"] for trial in record["trials"]] == pytest.approx([trial.value for trial in trials])

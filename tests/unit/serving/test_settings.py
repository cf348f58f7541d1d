"""Settings over a preset: merged, checked, refused in one line."""

import json

import pytest

from faceoff import presets
from faceoff.errors import UsageError
from serving import deploy, settings
from serving.servers import SERVERS, server_class


@pytest.mark.parametrize("server", list(SERVERS))
@pytest.mark.parametrize("tuning", ["default", "tuned"])
def test_every_preset_is_one_that_its_server_understands(server, tuning):
    found = server_class(server).settings(tuning)
    assert (found.pop("tuning"), found.pop("overrides")) == (tuning, {})
    assert set(found) <= set(server_class(server).schema)


def test_values_replace_tables_merge_and_null_takes_a_name_out():
    kind = server_class("tfserving")
    overrides = {
        "warmup_requests": 3,
        "flags": {"tensorflow_intra_op_parallelism": 2, "tensorflow_inter_op_parallelism": None},
        "environment": {"OMP_NUM_THREADS": 1},
        "batching": {"max_batch_size": 128, "allowed_batch_sizes": None},
    }
    found = kind.settings("tuned", overrides)
    assert found["overrides"] == overrides
    assert found["warmup_requests"] == 3
    assert found["flags"] == {"grpc_max_threads": 128, "tensorflow_intra_op_parallelism": 2}
    assert found["environment"] == {"TF_ENABLE_ONEDNN_OPTS": 1, "OMP_NUM_THREADS": 1}
    assert (found["batching"]["max_batch_size"], "allowed_batch_sizes" in found["batching"]) == (128, False)
    assert kind.settings("tuned", {"batching": None})["batching"] is None
    assert kind.settings("tuned")["flags"]["tensorflow_inter_op_parallelism"] == 1  # the preset itself is as it was


@pytest.mark.parametrize(("artifact", "form"), [("eager", "mar-eager"), ("aoti", "mar-aoti"), ("tf-onnx", "mar-tf-onnx")])
def test_the_archive_is_a_setting_of_torchserve(artifact, form):
    kind = server_class("torchserve")
    assert kind.servable_format(kind.settings("default", {"artifact": artifact})) == form


@pytest.mark.parametrize(
    ("server", "beginning"),
    [("torchserve", "mar-"), ("tfserving", "saved_model"), ("tfserving-embedded", "saved_model"), ("onnxruntime", "onnx")],
)
def test_what_a_server_may_be_given_is_what_export_makes_for_it(server, beginning):
    from export import formats

    kind = server_class(server)
    choices = kind.schema["artifact"].words
    exported = {row.format for row in formats.FORMATS if row.format.startswith(beginning)}
    assert {kind.servable_format(kind.settings("default", {"artifact": word})) for word in choices} == exported
    for tuning in ("default", "tuned"):  # a lower precision is asked for by name
        assert kind.servable_format(kind.settings(tuning)) == kind.artifact_format


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_the_settings_of_a_precision_name_artifacts_of_just_that(precision):
    from export import formats

    of_format = {row.format: row.precision for row in formats.FORMATS}
    given = settings.read(presets.PRESETS / "settings" / f"{precision}.yaml")
    assert len(given) > 1
    for server, overrides in given.items():
        kind = server_class(server)
        assert of_format[kind.servable_format(kind.settings("default", overrides))] == precision


@pytest.mark.parametrize(
    ("server", "overrides", "words"),
    [
        ("torchserve", {"worker": 2}, "unknown name 'worker'; expected one of allocator, artifact, batch_size"),
        ("torchserve", {"workers": 0}, "found workers=0, expected an integer of at least 1"),
        ("torchserve", {"workers": True}, "expected an integer of at least 1"),
        ("torchserve", {"workers": None}, "found workers=None, expected an integer"),
        ("torchserve", {"threads_per_worker": "x"}, "an integer of at least 1 or null"),
        ("torchserve", {"artifact": "pt"}, "expected eager or torchscript or pt2 or aoti or onnx or tf-onnx or eager-bf16"),
        ("tfserving", {"artifact": "onnx"}, "expected saved_model or saved_model-xla or saved_model-bf16"),
        ("torchserve", {"allocator": "malloc"}, "expected jemalloc or tcmalloc or null"),
        ("torchserve", {"jvm_args": "-Xmx1g"}, "expected a list of texts"),
        ("torchserve", {"properties": {"inference_address": "http://0.0.0.0:1"}}, "no 'inference_address' in it"),
        ("torchserve", {"properties": {"a": "b\nload_models=all"}}, "a text of one line"),
        ("torchserve", {"environment": {"A B": 1}}, "names of letters"),
        ("torchserve", {"environment": []}, "expected a table of names and values"),
        ("tfserving", {"version_policy": "newest"}, "expected specific or all or latest"),
        ("tfserving", {"flags": {"bind": "0.0.0.0"}}, "no 'bind' in it"),
        ("tfserving", {"flags": {"grpc_max_thread": 4}}, "unknown argument: --grpc_max_thread=4"),
        ("tfserving", {"flags": {"grpc_max_threads": "many"}}, "Couldn't interpret value many"),
        ("tfserving-embedded", {"flags": {"prefer_tflite_model": True}}, "does not support"),
        ("tfserving-embedded", {"batching": {"max_batch": 4}}, "and allowed_batch_sizes, not max_batch"),
        ("tfserving-embedded", {"batching": {"max_batch_size": 32}}, "an integer of at least 64 for max_batch_size"),
        ("tfserving-embedded", {"batching": {"batch_timeout_micros": -1}}, "at least 0 for batch_timeout_micros"),
        ("tfserving", {"batching": {"max_batch_size": 128}}, "to end with max_batch_size"),
        ("tfserving", {"batching": 8}, "allowed_batch_sizes or null"),
    ],
)
def test_what_a_server_does_not_understand_is_refused(server, overrides, words):
    with pytest.raises(UsageError) as refused:
        server_class(server).settings("tuned", overrides)
    assert str(refused.value).startswith(f"settings of {server}: ")
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_flag_that_only_the_real_server_has_is_its_to_judge():
    assert server_class("tfserving").settings("default", {"flags": {"prefer_tflite_model": True}})["flags"]["prefer_tflite_model"]


@pytest.mark.parametrize("text", ["", "[1]", "workers: 2", "{", "1: {}", '"\x00"'])
def test_a_file_that_is_no_table_of_servers_is_refused(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"settings\.yaml: (cannot be read|expected a table of servers)") as refused:
        settings.read(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "torchserve: {workers: 1}\ntorchserve: {workers: 2}\n",
        '{"torchserve": {"workers": 1, "workers": 2}}',
        "torchserve: {environment: {A: 1, A: 1}}",
    ],
)
def test_a_name_that_is_there_twice_is_refused(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(
        UsageError, match=r"settings\.yaml: cannot be read \(the name '\w+' is there twice, again in line"
    ) as refused:
        settings.read(path)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        settings.read(tmp_path / "none.json")


def deploy_with(tmp_path, capsys, text):
    """Exit code, JSON line and stderr of a deploy from an empty store."""
    path = tmp_path / "settings.json"
    path.write_text(text)
    roots = ("--artifacts", str(tmp_path / "artifacts"), "--results", str(tmp_path / "results"))
    code = deploy.main(["--servers", "torchserve", "--settings", str(path), *roots])
    printed = capsys.readouterr()
    return code, json.loads(printed.out.splitlines()[-1]), printed.err


def test_deploy_refuses_bad_settings_also_of_a_server_that_it_does_not_start(tmp_path, capsys):
    for text, words in (
        ('{"torchserve": {"workers": 0}}', "found workers=0"),
        ('{"tfserving-embedded": {"worker": 1}}', "unknown name 'worker'"),
        ('{"torch": {}}', "unknown server 'torch'"),
    ):
        code, result, _ = deploy_with(tmp_path, capsys, text)
        assert (code, result["status"], words in result["error"]) == (2, "usage", True), result
    assert not (tmp_path / "artifacts").exists()


def test_deploy_says_which_settings_it_does_not_use(tmp_path, capsys):
    text = '{"torchserve": {"workers": 1}, "tfserving-embedded": {"warmup_requests": 1}}'
    code, result, said = deploy_with(tmp_path, capsys, text)
    assert (code, "make train" in result["error"]) == (2, True)
    assert "also has settings of tfserving-embedded, not started now" in said


def test_deploy_refuses_a_file_that_is_about_other_servers_only(tmp_path, capsys):
    text = '{"tfserving-embedded": {"warmup_requests": 1}, "onnxruntime": {}}'
    code, result, said = deploy_with(tmp_path, capsys, text)
    assert (code, result["status"], len(said.splitlines())) == (2, "usage", 1)
    assert "found settings of onnxruntime, tfserving-embedded, expected some of torchserve" in result["error"]
    assert "make train" in deploy_with(tmp_path, capsys, "{}")[1]["error"]  # nothing asked for, nothing left undone

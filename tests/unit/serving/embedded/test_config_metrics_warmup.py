from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from serving import tfs_stubs as tfs
from serving.embedded import config, warmup, warmup_requests
from serving.embedded.errors import Code, ServingError, invalid
from serving.embedded.metrics import Metrics
from serving.embedded.signature import Signature, TensorInfo
from tests.unit.serving.embedded.fakemodel import FakeModel, signature


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config"
    path.write_text(text)
    return str(path)


def test_a_model_config_file(tmp_path: Path) -> None:
    text = """model_config_list {
      config { name: "a" base_path: "/m/a" model_platform: "tensorflow"
               model_version_policy { specific { versions: 1 versions: 4 } }
               version_labels { key: "stable" value: 1 } }
      config { name: "b" base_path: "/m/b" model_platform: "tensorflow" model_version_policy { latest { num_versions: 2 } } } }"""
    a, b = config.read_models(write(tmp_path, text))
    assert (a.specific, dict(a.labels), a.aspired([1, 2, 4, 5])) == ((1, 4), {"stable": 1}, [1, 4])
    assert b.aspired([3, 1, 2]) == [2, 3]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ('name: "a" base_path: "/a"', "Illegal setting neither ModelServerConfig::model_type"),
        ('name: "a" base_path: "/a" model_platform: "caffe"', "Model a requests unsupported platform caffe"),
        ('name: "a" base_path: "a" model_platform: "tensorflow"', r"absolute path or URI; got base_path\(\)=a"),
        ("nonsense", "Invalid protobuf file"),
    ],
)
def test_bad_model_configs(tmp_path: Path, model: str, told: str) -> None:
    with pytest.raises(ServingError, match=told):
        config.read_models(write(tmp_path, f"model_config_list {{ config {{ {model} }} }}"))


def test_other_kinds_of_configuration_are_refused() -> None:
    with pytest.raises(ServingError, match="Only ModelConfigList is currently supported"):
        config.models(tfs.model_server_config_pb2.ModelServerConfig())
    with pytest.raises(ServingError, match="No such file"):
        config.read_models("/nowhere/models.config")


def test_batching_parameters(tmp_path: Path) -> None:
    text = "max_batch_size { value: 8 }\nbatch_timeout_micros { value: 500 }\nallowed_batch_sizes: 4\nallowed_batch_sizes: 8\n"
    parsed = config.read_batching(write(tmp_path, text + 'thread_pool_name { value: "x" } pad_variable_length_inputs: true'))
    assert (parsed.max_batch_size, parsed.batch_timeout_micros, parsed.allowed_batch_sizes) == (8, 500, (4, 8))
    assert parsed.pad_variable_length_inputs
    with pytest.raises(ServingError, match="allowed_batch_sizes"):
        config.read_batching(write(tmp_path, "max_batch_size { value: 8 } allowed_batch_sizes: 4"))


def test_batching_defaults_and_fields_that_are_known(tmp_path: Path) -> None:
    assert config.read_batching(write(tmp_path, "")).num_batch_threads == len(os.sched_getaffinity(0))
    text = "max_batch_size { value: 8 } max_execution_batch_size { value: 4 } enable_large_batch_splitting { value: %s }"
    assert config.read_batching(write(tmp_path, text % "false")).max_batch_size == 8
    with pytest.raises(ServingError, match="enable_large_batch_splitting is not supported"):
        config.read_batching(write(tmp_path, text % "true"))


def test_monitoring(tmp_path: Path) -> None:
    assert config.read_monitoring(write(tmp_path, 'prometheus_config { enable: true path: "/m" }')) == "/m"
    assert config.read_monitoring(write(tmp_path, 'prometheus_config { path: "/m" }')) is None


def test_metrics_are_prometheus_text_and_absent_until_measured() -> None:
    metrics = Metrics()
    assert metrics.page() == b"\n"
    metrics.tell_settings({"batching": "natural", "max_batch_rows": 64})
    assert metrics.page().decode().splitlines()[1] == ':faceoff:settings{batching="natural",max_batch_rows="64"} 1'
    metrics.request('a"b', "predict", "REST", Code.OK, 12e-6)
    metrics.request('a"b', "predict", "REST", Code.INVALID_ARGUMENT, 5e-6)
    page = metrics.page().decode().splitlines()
    assert ':tensorflow:serving:request_count{model_name="a\\"b",status="OK"} 1' in page
    prefix = ':tensorflow:serving:request_latency_bucket{model_name="a\\"b",API="predict",entrypoint="REST",le='
    assert f'{prefix}"10"}} 1' in page
    assert f'{prefix}"18"}} 2' in page
    assert f'{prefix}"+Inf"}} 2' in page
    assert any(line.startswith(":tensorflow:serving:request_latency_sum{") and line.endswith(" 17") for line in page)
    assert not any("graph_runs" in line for line in page)


class Mixing(FakeModel):
    """Each row's answer depends on the rows beside it."""

    def run(self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
        return [feeds[0] - feeds[0].mean()]


class Shrinking(FakeModel):
    """The number of rows is not kept."""

    def run(self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
        return [feeds[0][:1]]


def test_every_size_a_batch_is_padded_to_is_warmed() -> None:
    model = FakeModel()
    assert warmup.warm(model, signature(), 8) == 8
    assert {(1,), (2,), (3,), (4,), (6,), (8,)} <= set(model.runs)


@pytest.mark.parametrize("model", [Mixing(), Shrinking()])
def test_models_whose_rows_depend_on_each_other_are_never_batched(model: FakeModel) -> None:
    assert warmup.warm(model, signature(), 8) == 1


@pytest.mark.parametrize("shape", [None, (), (2, 3)])
def test_inputs_without_a_batch_dimension_are_never_batched(shape: tuple[int, ...] | None) -> None:
    fixed = signature(x=TensorInfo(tensor="x:0", dtype_number=1, shape=shape))
    assert warmup.warm(FakeModel(), fixed, 8) == 1


class Reading(FakeModel):
    """Takes encoded images only, and answers with the value of their one pixel."""

    def run(self, signature: Signature, feeds: Sequence[np.ndarray], outputs: tuple[str, ...]) -> list[np.ndarray]:
        self.runs.append(feeds[0].shape)
        try:
            return [np.array([Image.open(io.BytesIO(data)).getpixel((0, 0)) for data in feeds[0]], "f4")]
        except UnidentifiedImageError:
            raise invalid("no image") from None


def test_a_model_that_reads_images_is_warmed_with_images() -> None:
    strings = signature(image_bytes=TensorInfo(tensor="x:0", dtype_number=7, shape=(-1,)))
    model = Reading()
    assert warmup.warm(model, strings, 8) == 8
    assert {(1,), (2,), (3,), (4,), (6,), (8,)} <= set(model.runs)
    made = warmup.feeds(strings, 7, "images")
    assert made is not None
    assert len(set(model.run(strings, made, ("y",))[0].tolist())) == 7
    assert warmup.agree(model, Reading(), strings)


def test_two_forms_of_a_model_are_compared() -> None:
    assert warmup.agree(FakeModel(), FakeModel(), signature())
    assert not warmup.agree(FakeModel(), Mixing(), signature())


def record(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + b"crc1" + data + b"crc2"


def warmup_file(folder: Path, data: bytes) -> Path:
    path = folder / warmup_requests.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return folder


def predict_log(alias: str = "x") -> bytes:
    entry = tfs.prediction_log_pb2.PredictionLog()
    tensor = entry.predict_log.request.inputs[alias]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=5)
    tensor.float_val.append(1)
    return bytes(entry.SerializeToString())


def test_recorded_warmup_requests_are_run(tmp_path: Path) -> None:
    model = FakeModel()
    assert warmup_requests.replay(model, tmp_path) == 0
    assert warmup_requests.replay(model, warmup_file(tmp_path, record(predict_log()) * 3)) == 3
    assert model.runs == [(5,)] * 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (record(predict_log())[:-1], "truncated record"),
        (b"12345", "truncated record"),
        (record(b"\xff\xff\xff"), "Failed to parse warmup record: 0"),
        (record(predict_log("other")), "does not fit the model"),
    ],
)
def test_warmup_requests_that_cannot_be_run_fail_the_load(tmp_path: Path, data: bytes, told: str) -> None:
    with pytest.raises(ServingError, match=told):
        warmup_requests.replay(FakeModel(), warmup_file(tmp_path, data))

"""The files written for TensorFlow Serving are read by the embedded server's parsers, which follow the real messages."""

import numpy as np
import pytest

from faceoff.golden import Golden
from faceoff.signature import image_classifier
from serving import tfs_stubs as tfs
from serving.embedded import config as embedded
from serving.embedded import warmup_requests
from serving.tfserving import config, warmup


@pytest.mark.parametrize("policy", ["specific", "all", "latest"])
def test_models_versions_and_labels_are_what_was_asked_for(tmp_path, policy):
    models = {"cnn": (tmp_path / 'with "quotes"', [1, 3]), "lstm": (tmp_path / "lstm", [1, 3])}
    path = config.write_models(tmp_path / "models.config", models, policy=policy, labels={"stable": 1, "canary": 3})
    first, second = embedded.read_models(str(path))
    assert (first.name, first.base_path, second.name) == ("cnn", str(tmp_path / 'with "quotes"'), "lstm")
    assert first.labels == second.labels == {"stable": 1, "canary": 3}
    expected = {"specific": [1, 3], "all": [1, 2, 3], "latest": [3]}[policy]
    assert first.aspired([3, 2, 1]) == expected


def test_batching_parameters_are_the_presets(tmp_path):
    parameters = {"max_batch_size": 8, "batch_timeout_micros": 200, "num_batch_threads": 2, "max_enqueued_batches": 5}
    path = config.write_batching(tmp_path / "batching.config", {**parameters, "allowed_batch_sizes": [1, 8]})
    found = embedded.read_batching(str(path))
    assert (found.max_batch_size, found.batch_timeout_micros, found.num_batch_threads) == (8, 200, 2)
    assert (found.max_enqueued_batches, found.allowed_batch_sizes) == (5, (1, 8))


def test_monitoring_is_on_at_the_path_that_metrics_are_read_from(tmp_path):
    assert embedded.read_monitoring(str(config.write_monitoring(tmp_path / "monitoring.config"))) == config.METRICS_PATH


def test_a_base_path_holds_just_the_versions_that_are_deployed(tmp_path):
    for version in (1, 2, 3):
        (tmp_path / "exports" / str(version)).mkdir(parents=True)
    base = config.link_versions(tmp_path / "base", {v: tmp_path / "exports" / str(v) for v in (1, 3)})
    assert sorted(path.name for path in base.iterdir()) == ["1", "3"]
    assert all(path.is_dir() for path in base.iterdir())


def test_the_checksum_is_crc32c():
    assert warmup._crc32c(b"123456789") == 0xE3069283  # the check value of RFC 3720's polynomial


def test_warm_up_requests_can_be_replayed(tmp_path):
    rows = np.random.default_rng(1).random((40, 2, 2, 1), np.float32)
    golden = Golden(inputs={"images": rows}, outputs={"logits": rows.reshape(40, 4)[:, :3]})
    count = warmup.write(tmp_path, model="cnn", version=7, signature=image_classifier((2, 2, 1), 3), golden=golden)
    found = [tfs.prediction_log_pb2.PredictionLog.FromString(r) for r in warmup_requests.records(tmp_path / warmup.FILE)]
    requests = [entry.predict_log.request for entry in found]
    assert len(requests) == count == len(warmup.BATCH_SIZES)
    assert [request.inputs["images"].tensor_shape.dim[0].size for request in requests] == list(warmup.BATCH_SIZES)
    assert not requests[0].model_spec.HasField("version")
    assert warmup_requests.FILE == warmup.FILE

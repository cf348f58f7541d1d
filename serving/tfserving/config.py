"""TensorFlow Serving's configuration files, in protobuf text format: models, batching parameters, monitoring.

https://www.tensorflow.org/tfx/serving/serving_config. Each function writes one file and returns its path.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METRICS_PATH = "/monitoring/prometheus/metrics"
# The fields of BatchingParameters that hold a boxed number.
BATCHING = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")


def write_models(path: Path, models: Mapping[str, tuple[Path, Sequence[int]]], *, policy: str, labels: Mapping[str, int]) -> Path:
    """Model name to base path and versions; `policy` is specific (just these), all, or latest (the highest)."""
    entries = []
    for name, (base_path, versions) in models.items():
        chosen = {
            "specific": "specific { " + " ".join(f"versions: {version}" for version in versions) + " }",
            "all": "all {}",
            "latest": "latest { num_versions: 1 }",
        }[policy]
        lines = [f"name: {_text(name)}", f"base_path: {_text(str(base_path))}", 'model_platform: "tensorflow"']
        lines.append(f"model_version_policy {{ {chosen} }}")
        lines += [f"version_labels {{ key: {_text(label)} value: {version} }}" for label, version in labels.items()]
        entries.append("  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n")
    path.write_text("model_config_list {\n" + "".join(entries) + "}\n", encoding="utf-8")
    return path


def write_batching(path: Path, parameters: Mapping[str, Any]) -> Path:
    """BatchingParameters; `allowed_batch_sizes` is a list, all else one number."""
    lines = [f"{name} {{ value: {parameters[name]} }}" for name in BATCHING if name in parameters]
    lines += [f"allowed_batch_sizes: {size}" for size in parameters.get("allowed_batch_sizes", ())]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_monitoring(path: Path) -> Path:
    """Prometheus metrics on the REST port."""
    path.write_text(f"prometheus_config {{ enable: true path: {_text(METRICS_PATH)} }}\n", encoding="utf-8")
    return path


def link_versions(base_path: Path, versions: Mapping[int, Path]) -> Path:
    """A base path that holds just these versions, as links: exports of two versions lie in two folders."""
    base_path.mkdir(parents=True, exist_ok=True)
    for version, artifact in versions.items():
        (base_path / str(version)).symlink_to(artifact.resolve(), target_is_directory=True)
    return base_path


def _text(value: str) -> str:
    return json.dumps(value)  # the escapes of JSON strings are among those of protobuf text

"""More versions of what was exported once: exporting again would cost a minute and change nothing."""

from __future__ import annotations

import json
import shutil
import zipfile

from faceoff import manifest
from faceoff.store import Store


def add_version(store: Store, model: str, version: int) -> None:
    """Version 1 again under another number, as `make export VERSION=n` and `make verify VERSION=n` would leave it."""
    first, second = store.export_dir(model, 1), store.export_dir(model, version)
    exported = manifest.read(first, stage="export", command="")
    proof = manifest.read(store.verify_dir(model, 1), stage="verify", command="")
    shutil.copytree(first, second, ignore=shutil.ignore_patterns("verify", "manifest.json"))
    (second / "saved_model" / "1").rename(second / "saved_model" / str(version))
    with zipfile.ZipFile(first / f"{model}.mar") as old, zipfile.ZipFile(second / f"{model}.mar", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "MAR-INF/MANIFEST.json":
                data = data.replace(b'"modelVersion": "1"', f'"modelVersion": "{version}"'.encode())
            new.writestr(name, data)
    artifacts = json.loads(json.dumps(exported.metrics).replace("saved_model/1", f"saved_model/{version}"))
    manifest.write(second, stage="export", model=model, inputs=exported.inputs, config=exported.config, metrics=artifacts)
    (second / "verify").mkdir()
    inputs = {"export": manifest.sha256(second / "manifest.json")}
    manifest.write(second / "verify", stage="verify", model=model, inputs=inputs, metrics=proof.metrics)

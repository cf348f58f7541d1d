"""The readers of the original formats, on small files made here; nothing is downloaded."""

import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from faceoff import presets
from faceoff.errors import CorruptError, UsageError
from training import datasets_files
from training.datasets import load

CNN = presets.model("cnn")
RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.integers(0, 256, (5, 28, 28), np.uint8), np.array([3, 1, 4, 1, 5], np.uint8)


def idx(array):
    """An array of bytes as the original files have it."""
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


def register(monkeypatch, constant, folder, contents):
    """Write the files and let their checksums be the published ones."""
    folder.mkdir(exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    files = {name: hashlib.md5(data).hexdigest() for name, data in contents.items()}
    monkeypatch.setattr(datasets_files, constant, dataclasses.replace(getattr(datasets_files, constant), files=files))


@pytest.mark.parametrize(
    ("name", "constant", "first"), [("mnist", "MNIST", "0"), ("fashion-mnist", "FASHION_MNIST", "T-shirt/top")]
)
@pytest.mark.parametrize("folder", ["", "own"])
def test_idx_files_are_read_from_data_dir(monkeypatch, tmp_path, *, name, constant, first, folder):
    contents = dict(zip(datasets_files.MNIST.files, (idx(IMAGES), idx(LABELS), idx(IMAGES[:2]), idx(LABELS[:2])), strict=True))
    register(monkeypatch, constant, tmp_path / name if folder else tmp_path, contents)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    dataset = load(name, CNN)
    assert dataset.train.inputs[0].shape == (5, 28, 28, 1)
    assert dataset.train.inputs[0].dtype == np.float32
    assert np.array_equal(np.rint(dataset.train.inputs[0][..., 0] * 255), IMAGES)
    assert (dataset.test.targets.tolist(), dataset.test.targets.dtype) == ([3, 1], np.int64)
    assert dataset.class_names[0] == first


def cifar_archive(folder, members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            data = pickle.dumps(content, protocol=2)  # the originals are from Python 2
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def batch(labels, key):
    planes = RNG.integers(0, 256, (len(labels), 3, 32, 32), np.uint8)
    return planes, {"data": planes.reshape(len(labels), 3072), key: labels}


def test_cifar_archives_are_read_from_data_dir(monkeypatch, tmp_path):
    planes, first = batch([7, 2], "labels")
    others = {f"data_batch_{number}": batch([number], "labels")[1] for number in range(2, 6)}
    meta = {"label_names": [f"kind {number}" for number in range(10)]}
    members = {"data_batch_1": first, **others, "test_batch": batch([9], "labels")[1], "batches.meta": meta}
    register(monkeypatch, "CIFAR10", tmp_path, {"cifar-10-python.tar.gz": cifar_archive("cifar-10-batches-py", members)})
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    dataset = load("cifar10", CNN)
    assert dataset.train.targets.tolist() == [7, 2, 2, 3, 4, 5]
    assert np.array_equal(np.rint(dataset.train.inputs[0][1] * 255), planes[1].transpose(1, 2, 0))  # planes to pixels
    assert (dataset.test.targets.tolist(), dataset.class_names[9]) == ([9], "kind 9")

    hundred = {"train": batch([40, 41], "fine_labels")[1], "test": batch([99], "fine_labels")[1]}
    hundred["meta"] = {"fine_label_names": [str(number) for number in range(100)]}
    register(monkeypatch, "CIFAR100", tmp_path, {"cifar-100-python.tar.gz": cifar_archive("cifar-100-python", hundred)})
    dataset = load("cifar100", CNN)
    assert (dataset.train.targets.tolist(), len(dataset.class_names)) == ([40, 41], 100)


def test_a_file_with_another_checksum_is_refused(monkeypatch, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"something else")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(CorruptError, match="expected c58f30108f718f92721af3b95e74349a, the published one"):
        load("cifar10", CNN)


def test_a_broken_file_is_named(monkeypatch, tmp_path):
    register(monkeypatch, "CIFAR10", tmp_path, {"cifar-10-python.tar.gz": b"not a tar"})
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(CorruptError, match="is not the archive of cifar10"):
        load("cifar10", CNN)
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"\0\0\x0d\x01" + b"\0" * 8))
    with pytest.raises(CorruptError, match="magic number 00000d01"):
        datasets_files.read_idx(tmp_path / "x.gz")


def test_a_pickle_that_wants_more_than_arrays_is_refused(monkeypatch, tmp_path):
    class Runs:
        def __reduce__(self):
            return (print, ("run",))

    members = {"train": Runs(), "test": {}, "meta": {}}
    register(monkeypatch, "CIFAR100", tmp_path, {"cifar-100-python.tar.gz": cifar_archive("cifar-100-python", members)})
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    with pytest.raises(CorruptError, match="expected arrays only"):
        load("cifar100", CNN)


def test_without_network_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    nowhere = dataclasses.replace(datasets_files.MNIST, url="http://127.0.0.1:9/")
    monkeypatch.setattr(datasets_files, "MNIST", nowhere)
    with pytest.raises(UsageError, match=r"needs train-images-idx3-ubyte.gz: found it neither in .*set DATA_DIR=<folder>"):
        load("mnist", CNN)


def test_mnist1d_is_the_published_one_and_leaves_no_trace():
    import sys

    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    dataset = load("mnist1d", presets.model("lstm"))
    assert np.array_equal(np.random.get_state()[1], before)
    assert dataset.train.inputs[0].shape == (4000, 40, 1)
    assert dataset.test.inputs[0].shape == (1000, 40, 1)
    values = np.concatenate([dataset.train.inputs[0], dataset.test.inputs[0]])
    assert abs(values.mean()) < 1e-5
    assert values.std() == pytest.approx(1, abs=1e-5)
    assert len(np.unique(dataset.train.targets)) == 10
    assert getattr(sys.modules.get("matplotlib"), "__file__", "real") is not None

"""`mnist`, `fashion-mnist`, `cifar10`, `cifar100` from their original files, which are never unpacked to disk.

A file is looked for in DATA_DIR, or under it in a folder of the data set's name, then in pooch's cache; else it is
downloaded there. Wherever it comes from, its md5 must be the published one: of mnist, cifar10 and cifar100 as
torchvision has it, of fashion-mnist as its own README has it (https://github.com/zalandoresearch/fashion-mnist).

| data set             | format                                                                           |
|----------------------|----------------------------------------------------------------------------------|
| mnist, fashion-mnist | gzipped IDX: big-endian magic number and sizes, then bytes                         |
| cifar10, cifar100    | tar.gz of pickles from Python 2: rows of 3072 bytes, the red, green, blue planes |
"""

from __future__ import annotations

import codecs
import gzip
import importlib
import os
import pickle
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceoff.errors import CorruptError, UsageError
from faceoff.images import WHITE
from faceoff.presets import ModelPreset
from training.datasets import Dataset, Rows


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a data set's files come from; `files` maps a name to its md5."""

    name: str
    url: str
    files: dict[str, str]
    citation: str


MNIST = Source(
    name="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    files={
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    citation="MNIST (LeCun et al. 1998), 70,000 images of 28x28",
)
FASHION_MNIST = Source(
    name="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files={
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
    citation="Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747), 70,000 images of 28x28",
)
CIFAR10 = Source(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/",
    files={"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    citation="CIFAR-10 (Krizhevsky 2009), 60,000 images of 32x32x3",
)
CIFAR100 = Source(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/",
    files={"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
    citation="CIFAR-100 (Krizhevsky 2009), 60,000 images of 32x32x3, fine labels",
)
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
DIGITS = tuple(str(digit) for digit in range(10))


def mnist(preset: ModelPreset) -> Dataset:
    """28x28x1 images of handwritten digits."""
    return _idx(MNIST, DIGITS)


def fashion_mnist(preset: ModelPreset) -> Dataset:
    """28x28x1 images of clothes, in MNIST's format."""
    return _idx(FASHION_MNIST, FASHION_CLASSES)


def cifar10(preset: ModelPreset) -> Dataset:
    """32x32x3 photographs of ten kinds."""
    folder = "cifar-10-batches-py"
    parts = {"train": [f"{folder}/data_batch_{number}" for number in range(1, 6)], "test": [f"{folder}/test_batch"]}
    return _cifar(CIFAR10, parts, labels="labels", meta=(f"{folder}/batches.meta", "label_names"))


def cifar100(preset: ModelPreset) -> Dataset:
    """32x32x3 photographs of a hundred kinds."""
    folder = "cifar-100-python"
    parts = {"train": [f"{folder}/train"], "test": [f"{folder}/test"]}
    return _cifar(CIFAR100, parts, labels="fine_labels", meta=(f"{folder}/meta", "fine_label_names"))


def fetch(source: Source) -> list[Path]:
    """The files of `source`, in order, each with the published md5.

    Raises UsageError when one is missing and cannot be downloaded, CorruptError when one in DATA_DIR is another.
    """
    import pooch

    chosen = os.environ.get("DATA_DIR", "")
    paths = []
    for name, md5 in source.files.items():
        folders = [Path(chosen), Path(chosen) / source.name] if chosen else []
        present = [folder / name for folder in folders if (folder / name).is_file() and _belongs(source, folder)]
        if present:
            found = pooch.file_hash(str(present[-1]), alg="md5")
            if found != md5:
                raise CorruptError(f"{present[-1]} has md5 {found}: expected {md5}, the published one; fetch it again")
            paths.append(present[-1])
            continue
        cache = Path(pooch.os_cache("faceoff")) / source.name
        try:
            pooch.get_logger().setLevel("WARNING")
            paths.append(Path(pooch.retrieve(source.url + name, known_hash=f"md5:{md5}", fname=name, path=cache)))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
            where = f"DATA_DIR={chosen}" if chosen else "DATA_DIR (not set)"
            raise UsageError(
                f"data set {source.name!r} needs {name}: found it neither in {where} nor in {cache}, and the download of "
                f"{source.url}{name} failed ({_root(error)}); put the file into a folder and set "
                "DATA_DIR=<folder>, or use DATASET=digits, mnist1d or synthetic, which need no network"
            ) from error
    return paths


def _root(error: BaseException) -> str:
    """The first of a chain of errors: what happened, not who else noticed."""
    first = error
    while first.__cause__ or first.__context__:
        first = first.__cause__ or first.__context__  # type: ignore[assignment]
    return f"{type(first).__name__}: {str(first).splitlines()[0][:200] if str(first) else 'no message'}"


def _belongs(source: Source, folder: Path) -> bool:
    # mnist and fashion-mnist have files of the same names: a folder called after the other is not ours.
    return folder.name == source.name or folder.name not in ("mnist", "fashion-mnist")


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes. Raises CorruptError for anything else."""
    try:
        raw = gzip.decompress(path.read_bytes())
        zeros, kind, ndim = struct.unpack(">HBB", raw[:4])
        shape = struct.unpack(f">{ndim}I", raw[4 : 4 + 4 * ndim])
        if zeros != 0 or kind != 8:
            raise ValueError(f"magic number {raw[:4].hex()}, expected 000008xx")
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise CorruptError(f"{path} is not an IDX file of bytes: {error}; fetch it again") from error


def read_cifar(archive: tarfile.TarFile, member: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (rows, 32, 32, 3) and int64 labels (rows,) of one pickle in the archive."""
    data = read_pickle(archive, member)
    planes = np.asarray(data["data"], np.uint8).reshape(-1, 3, 32, 32)
    return planes.transpose(0, 2, 3, 1), np.asarray(data[label_key], np.int64)


def read_pickle(archive: tarfile.TarFile, member: str) -> dict[str, Any]:
    """A pickle of Python 2, its keys as text. Only an array's own classes may be in it: a pickle can run anything."""
    file = archive.extractfile(member)
    assert file is not None  # a KeyError comes first where there is no such member
    data: dict[str, Any] = _Unpickler(file, encoding="latin1").load()
    return data


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = {("_reconstruct", "multiarray"), ("ndarray", "numpy"), ("dtype", "numpy"), ("encode", "_codecs")}
        if (name, module.rsplit(".", 1)[-1]) not in allowed:
            raise pickle.UnpicklingError(f"the file wants {module}.{name}: expected arrays only")
        if name == "_reconstruct":  # moved between NumPy 1 and 2
            return getattr(importlib.import_module("numpy._core.multiarray"), name)
        return getattr(np, name) if module == "numpy" else codecs.encode  # bytes, in a pickle that Python 3 wrote


def _idx(source: Source, class_names: tuple[str, ...]) -> Dataset:
    x_train, y_train, x_test, y_test = (read_idx(path) for path in fetch(source))
    return _images(source, (x_train[..., np.newaxis], y_train), (x_test[..., np.newaxis], y_test), class_names)


def _cifar(source: Source, parts: dict[str, list[str]], *, labels: str, meta: tuple[str, str]) -> Dataset:
    (path,) = fetch(source)
    splits = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for members in parts.values():
                found = [read_cifar(archive, member, labels) for member in members]
                splits.append(tuple(np.concatenate(arrays) for arrays in zip(*found, strict=True)))
            class_names = tuple(read_pickle(archive, meta[0])[meta[1]])
    except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, pickle.UnpicklingError) as error:
        raise CorruptError(f"{path} is not the archive of {source.name}: {error}; fetch it again") from error
    return _images(source, splits[0], splits[1], class_names)


def _images(source: Source, train: Any, test: Any, class_names: tuple[str, ...]) -> Dataset:
    rows = [
        Rows(inputs=(images.astype(np.float32) / np.float32(WHITE),), targets=labels.astype(np.int64))
        for images, labels in (train, test)
    ]
    return Dataset(name=source.name, source=source.citation, train=rows[0], test=rows[1], class_names=class_names)

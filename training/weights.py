"""Weights in numpy: drawn once, loaded into both frameworks, moved between them.

The neutral form is a dict from `layer/variable` names to float32 arrays in Keras' layout (convolutions
HWIO, dense kernels (in, out)), since outside a model file everything is NHWC.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from faceoff.errors import CorruptError, FaceoffError
from faceoff.signature import Arrays

Shapes = dict[str, tuple[int, ...]]


def draw(shapes: Shapes, seed: int) -> Arrays:
    """Initial weights for `shapes`, the same for the same names, shapes and seed.

    Each variable has a stream of its own, so that the order of the layers does not matter. By kind:

    kernel             Glorot-uniform (Glorot and Bengio 2010, https://proceedings.mlr.press/v9/glorot10a.html)
    recurrent_kernel   Glorot-uniform for the square block of each gate; the identity where there is no gate, so that a plain
                       RNN neither forgets nor explodes at first (Le et al. 2015, arXiv:1504.00941)
    embeddings         normal, variance 1 / width
    bias, beta, moving_mean     0, but 1 for an LSTM's forget gate (Jozefowicz et al. 2015)
    gamma, moving_variance      1, but gamma is 0 in a residual block's `last_norm`: a deep network then starts as the
                                identity, and its first gradients are small (Goyal et al. 2017, arXiv:1706.02677)

    Raises ValueError for a variable of another kind.
    """
    weights = {}
    for name, shape in shapes.items():
        layer, kind = name.rsplit("/", 1)
        if kind == "kernel":
            field = int(np.prod(shape[:-2]))  # 1 for a dense kernel
            limit = np.sqrt(6.0 / (field * (shape[-2] + shape[-1])))
            weights[name] = _stream(name, seed).uniform(-limit, limit, shape).astype(np.float32)
        elif kind == "recurrent_kernel" and shape[0] == shape[1]:
            weights[name] = np.eye(shape[0], dtype=np.float32)
        elif kind == "recurrent_kernel":
            limit = np.sqrt(3.0 / shape[0])
            weights[name] = _stream(name, seed).uniform(-limit, limit, shape).astype(np.float32)
        elif kind == "embeddings":
            weights[name] = (_stream(name, seed).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        elif kind in ("bias", "beta", "moving_mean"):
            weights[name] = np.zeros(shape, np.float32)
            units = shapes.get(f"{layer}/recurrent_kernel", (0,))[0]
            if shape == (4 * units,):  # gates i, f, g, o
                weights[name][units : 2 * units] = 1.0
        elif kind in ("gamma", "moving_variance"):
            first = 0.0 if kind == "gamma" and layer.endswith("last_norm") else 1.0
            weights[name] = np.full(shape, first, np.float32)
        else:
            raise ValueError(
                f"no rule to draw {name!r}: expected kernel, recurrent_kernel, embeddings, bias, beta, gamma, "
                "moving_mean or moving_variance"
            )
    return weights


def disturbed(weights: Arrays, seed: int) -> Arrays:
    """`weights` with noise on everything that starts alike: zeros, ones and the identity hide a bias, a scale or an axis in
    the wrong place.
    """
    found = {}
    for name, value in weights.items():
        constant = value.size == 0 or name.endswith(("/bias", "/beta", "/gamma", "/moving_mean", "/moving_variance"))
        noise = _stream(name, seed).uniform(-0.2, 0.2, value.shape).astype(np.float32)
        identity = name.endswith("/recurrent_kernel") and value.shape[0] == value.shape[1]
        found[name] = value + noise if constant else value + noise / 10 if identity else value
    return found


def _stream(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")])


def load_or_draw(path: Path, expected: Shapes, seed: int, *, disturb: bool = False) -> Arrays:
    """The initial weights at `path`, drawn by whichever framework comes first and checked by the other.

    Raises CorruptError when the file does not hold exactly these names and shapes: then the two sides do
    not describe the same model.
    """
    if not path.exists():
        drawn = draw(expected, seed)
        save(path, disturbed(drawn, seed) if disturb else drawn)
    weights = load(path)
    check(weights, expected, str(path))
    return weights


def shapes(weights: Arrays) -> Shapes:
    """The shape of every weight."""
    return {name: tuple(array.shape) for name, array in weights.items()}


def check(weights: Arrays, expected: Shapes, what: str) -> None:
    """Raise CorruptError unless `weights` has exactly these names and shapes."""
    found = shapes(weights)
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        name = wrong[0]
        raise CorruptError(
            f"{what} has {name!r} as {found.get(name)}, expected {expected.get(name)}: "
            "the two models differ, or run again: make train"
        )


def check_same(found: Arrays, loaded: Arrays, framework: str) -> None:
    """Raise FaceoffError unless the weights read back from a model are, bit for bit, those loaded into it."""
    wrong = [name for name in loaded if not np.array_equal(found[name], loaded[name])]
    if wrong:
        raise FaceoffError(f"{wrong[0]!r} does not come back from the {framework} model as it was loaded")


def save(path: Path, weights: Arrays) -> None:
    """Write one .npz. Slashes stay in the names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **weights)  # type: ignore[arg-type]


def load(path: Path) -> Arrays:
    """Read one .npz. Raises CorruptError when it cannot be read."""
    try:
        with np.load(path) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError) as error:
        raise CorruptError(f"cannot read weights from {path}: {error}; run again: make train") from error


def is_statistic(name: str) -> bool:
    """Whether a variable is one of batch normalization's running statistics, which no gradient trains."""
    return name.rsplit("/", 1)[-1].startswith("moving_")


def num_parameters(weights: Arrays) -> int:
    """Trainable values: everything but running statistics, counted alike on both sides."""
    return sum(array.size for name, array in weights.items() if not is_statistic(name))


def digest(weights: Arrays) -> str:
    """sha256 over names, shapes and bytes in name order: equal weights, equal digest, whatever the file."""
    hasher = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name], dtype="<f4")
        hasher.update(f"{name}{array.shape}".encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()

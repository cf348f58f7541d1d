import json

import numpy as np
import pytest

from faceoff import signature
from faceoff.errors import UsageError
from faceoff.signature import Signature, TensorSpec, image_classifier

SIGNATURE = image_classifier((8, 8, 1), 10)


def test_it_survives_a_manifest():
    assert Signature.from_dict(SIGNATURE.to_dict()) == SIGNATURE


def test_rows_are_counted():
    assert SIGNATURE.check_inputs({"images": np.zeros((3, 8, 8, 1), np.float32)}) == 3


@pytest.mark.parametrize(
    "inputs",
    [
        {"pictures": np.zeros((3, 8, 8, 1), np.float32)},
        {"images": np.zeros((3, 1, 8, 8), np.float32)},
        {"images": np.zeros((8, 8, 1), np.float32)},
        {"images": np.zeros((3, 8, 8, 1), np.float64)},
        {},
    ],
)
def test_other_names_shapes_and_dtypes_are_refused(inputs):
    with pytest.raises(UsageError, match="expected"):
        SIGNATURE.check_inputs(inputs)


def test_two_inputs_have_the_same_number_of_rows():
    spec = {"dtype": "int32", "shape": (4,)}
    both = Signature(inputs=(TensorSpec(name="ids", **spec), TensorSpec(name="mask", **spec)), outputs=())
    with pytest.raises(UsageError, match="different numbers of rows"):
        both.check_inputs({"ids": np.zeros((1, 4), np.int32), "mask": np.zeros((2, 4), np.int32)})


def test_a_size_below_one_is_a_mistake():
    with pytest.raises(ValueError, match="at least 1"):
        TensorSpec(name="x", dtype="float32", shape=(0,))


def test_a_dynamic_axis_has_any_size_and_says_so():
    tokens = signature.token_classifier((32,), 2)
    assert tokens.inputs[0].dynamic_shape == (None,)
    assert Signature.from_dict(json.loads(json.dumps(tokens.to_dict()))) == tokens
    short = {name: np.ones((2, 5), np.int32) for name in ("ids", "mask")}
    assert tokens.check_inputs(short) == 2
    with pytest.raises(UsageError, match=r"'ids' has shape \(2, 5, 1\): expected \(batch, any\)"):
        tokens.check_inputs({**short, "ids": np.ones((2, 5, 1), np.int32)})
    with pytest.raises(UsageError, match="has shape"):
        tokens.check_inputs({name: array[:, :0] for name, array in short.items()})
    with pytest.raises(UsageError, match=r"expected \(batch, any, 1\)"):
        signature.sequence_classifier((40, 1), 10).check_inputs({"sequences": np.ones((2, 7, 2), np.float32)})


def test_a_manifest_from_before_dynamic_axes_is_read():
    data = signature.identity((3,)).to_dict()
    for spec in (*data["inputs"], *data["outputs"]):
        del spec["dynamic"]
    assert Signature.from_dict(data) == signature.identity((3,))


def test_a_dynamic_axis_is_one_of_the_shape():
    with pytest.raises(ValueError, match="dynamic axes"):
        signature.TensorSpec(name="x", dtype="float32", shape=(3,), dynamic=(1,))

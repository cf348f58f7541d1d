"""What a handler says of its own outputs, which no wire carries."""

from types import SimpleNamespace

import numpy as np
import pytest

from export import verify_mar
from faceoff.errors import FaceoffError
from faceoff.golden import Golden

LOGITS = np.arange(40, dtype=np.float32).reshape(4, 10)
TRAINED = SimpleNamespace(golden=Golden(inputs={"images": np.zeros((4, 8, 8, 1), np.float32)}, outputs={"logits": LOGITS}))


def handler(outputs):
    return SimpleNamespace(infer=lambda rows: outputs(rows["images"]))


def test_the_signatures_names_shapes_and_dtypes_pass_whatever_the_values():
    verify_mar.check_outputs(handler(lambda rows: {"logits": np.ones((len(rows), 10), np.float32)}), TRAINED)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (lambda rows: {"output_0": LOGITS[: len(rows)]}, r"named \['output_0'\], expected \['logits'\]"),
        (lambda rows: {"logits": LOGITS[: len(rows)].astype(np.float64)}, "dtype float64"),
        (lambda rows: {"logits": LOGITS[: len(rows), :5]}, "shape"),
    ],
)
def test_others_are_refused(outputs, words):
    with pytest.raises(FaceoffError, match=f"the handler's outputs: .*{words}"):
        verify_mar.check_outputs(handler(outputs), TRAINED)

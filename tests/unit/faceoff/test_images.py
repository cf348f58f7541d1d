import numpy as np
import pytest

from faceoff import images, signature
from faceoff.errors import CorruptError

IMAGES = signature.image_classifier((8, 8, 1), 3)
LOGITS = {"logits": np.zeros((2, 3), np.float32)}


@pytest.mark.parametrize(
    ("made", "takes"),
    [
        (IMAGES, True),
        (signature.image_classifier((32, 32, 3), 10), True),
        (signature.identity((8, 8, 1)), True),
        (signature.image_classifier((8, 8, 4), 10), False),
        (signature.identity((40, 1)), False),
        (signature.vector_classifier((64,), 10), False),
        (signature.sequence_classifier((40, 1), 10), False),
        (signature.token_classifier((32,), 4), False),
        (signature.image_generator((32,), (8, 8, 1)), False),
    ],
)
def test_the_signature_decides_who_takes_images(made, takes):
    found = images.variant(made)
    assert (found is not None, images.about(made) is not None) == (takes, takes)
    if found:
        assert (found.name, [spec.name for spec in found.inputs], found.outputs) == (
            "serving_image",
            ["image_bytes"],
            made.outputs,
        )
        assert found.check_inputs({"image_bytes": images.rows([b"a", b"bc"])}) == 2
        assert images.variant(found) == found


def test_whole_servables_decode_and_networks_alone_do_not():
    assert all(map(images.decoded_by, ("mar-eager", "mar-tf-onnx", "saved_model", "saved_model-xla")))
    assert not any(map(images.decoded_by, ("onnx", "tflite", "executorch", "")))


def test_golden_images_are_files_that_people_can_open(tmp_path):
    for encoding in images.ENCODINGS:
        images.write(tmp_path, encoding, [b"first", b"second"], LOGITS)
    assert (tmp_path / "images" / "jpeg" / "01.jpg").read_bytes() == b"second"
    found = images.read(tmp_path, IMAGES)
    assert sorted(found) == ["jpeg", "png"]
    assert found["png"].rows(1, 2).inputs["image_bytes"].tolist() == [b"second", b"first"]
    assert images.read(tmp_path, signature.vector_classifier((64,), 10)) == {}


def test_missing_golden_images_name_the_command(tmp_path):
    with pytest.raises(CorruptError, match="run again: make export"):
        images.read(tmp_path, IMAGES)
    for encoding in images.ENCODINGS:
        images.write(tmp_path, encoding, [b"one"], LOGITS)
    with pytest.raises(CorruptError, match="holds 1 images"):
        images.read(tmp_path, IMAGES)

"""Encoded images inside an archive: what is read of them, how they are resized, and that golden images tell it from others."""

import io

import numpy as np
import pytest
from PIL import Image

from export import check, golden_images
from export.handlers import images as handler
from export.handlers.images import Decoder, ImageError
from faceoff import images
from faceoff.golden import Golden
from faceoff.manifest import Manifest
from faceoff.servables import Servable, Trained
from faceoff.signature import identity

RNG = np.random.default_rng(3)
ABOUT = images.about(identity((8, 8, 1)))


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decoder(shape):
    return Decoder(shape, **ABOUT)


def test_an_image_of_the_models_size_is_the_row_that_a_data_set_has():
    for shape in ((8, 8, 1), (5, 7, 3)):
        pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
        found = decoder(shape).pixels(encoded(Image.fromarray(pixels.squeeze())))
        assert found.dtype == np.float32
        assert np.array_equal(found, pixels.astype(np.float32) / np.float32(255))
    assert np.array_equal(handler.scale(np.arange(256), 255), np.arange(256, dtype=np.float32) / np.float32(255))


GREY, COLOURS = RNG.integers(0, 256, (6, 9), dtype=np.uint8), RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
LUMA = (COLOURS.astype(int) @ [19595, 38470, 7471] + 32768) >> 16


@pytest.mark.parametrize(
    ("image", "grey", "colours"),
    [
        (Image.fromarray(GREY), GREY, GREY),
        (Image.fromarray(COLOURS), LUMA, COLOURS),
        (Image.fromarray(np.dstack([COLOURS, GREY])), LUMA, COLOURS),
        (Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(GREY[::-1].copy())]), GREY, GREY),
        (Image.fromarray(GREY).convert("P"), GREY, GREY),
        (Image.fromarray(GREY > 127), (GREY > 127) * 255, (GREY > 127) * 255),
        (Image.fromarray(GREY.astype(np.uint16) * 256 + 255), GREY, GREY),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_every_kind_of_png_is_grey_or_colours_of_8_bits_without_alpha(image, grey, colours):
    data = encoded(image)
    assert np.array_equal(handler.decode(data, 1, 100)[..., 0], grey)
    expected = colours if colours.ndim == 3 else np.repeat(colours[..., np.newaxis], 3, axis=2)
    assert np.array_equal(handler.decode(data, 3, 100), expected)


PNG, JPEG = encoded(Image.fromarray(COLOURS)), encoded(Image.fromarray(COLOURS), "JPEG")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a PNG or JPEG"),
        (b"hello", "not a PNG or JPEG"),
        (encoded(Image.fromarray(GREY), "GIF"), "not a PNG or JPEG"),
        (handler.PNG, "truncated"),
        *((PNG[:-cut], "truncated|cannot be read") for cut in (1, 13, 23, len(PNG) - 30)),
        (PNG[:50] + b"\0" + PNG[51:], "cannot be read"),
        *((JPEG[:-cut], "cannot be read") for cut in (1, 40, len(JPEG) - 30)),
        (encoded(Image.new("CMYK", (4, 4)), "JPEG"), "CMYK"),
        (encoded(Image.new("L", (5000, 5000))), "more than 16777216 pixels"),
        (encoded(Image.new("L", (20000, 10000))), "more than 16777216 pixels"),
    ],
)
def test_what_is_no_whole_image_is_refused_in_one_line(data, words):
    with pytest.raises(ImageError, match=words) as error:
        decoder((8, 8, 1)).pixels(data)
    assert "\n" not in str(error.value)


def test_bytes_of_numbers_do_not_begin_as_an_image():
    takes = decoder((8, 8, 1))
    assert takes.begins(PNG) and takes.begins(JPEG)
    assert not takes.begins(b"") and not takes.begins(b"\xff\xd8\xff")
    for value in (1.9987, -7.9949, -2047.49):  # float32 that begin with the three bytes of a JPEG
        row = np.full(4, value, "<f4")
        row.view(np.uint32)[0] = int(row.view(np.uint32)[0]) & 0xFF000000 | 0xFFD8FF
        assert row.tobytes().startswith(b"\xff\xd8\xff")
        assert not takes.begins(row.tobytes())


@pytest.mark.parametrize(
    ("size", "new"), [((8, 8), (16, 16)), ((16, 12), (4, 5)), ((1, 1), (3, 4)), ((7, 301), (9, 8)), ((9, 5), (9, 7))]
)
def test_resizing_is_bilinear_between_the_centres_of_pixels(size, new):
    """In float64, from the definition: the value at a place is that of its four neighbours, the edge's beyond it."""
    array = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = array.astype(np.float64)
    for axis in (0, 1):
        place = np.clip((np.arange(new[axis]) + 0.5) * size[axis] / new[axis] - 0.5, 0, size[axis] - 1)
        matrix = np.maximum(0, 1 - np.abs(place[:, np.newaxis] - np.arange(size[axis])))
        expected = np.moveaxis(np.tensordot(matrix, expected, (1, axis)), 0, axis)
    assert np.abs(handler.resize(array, *new) - expected).max() < 1e-4  # of 255


def examine(predict, shape, pictures):
    """The verdict of verification on an identity model whose preprocessing is `predict`."""
    rows = Golden(inputs={"values": np.zeros((2, *shape), np.float32)}, outputs={"same": np.zeros((2, *shape), np.float32)})
    trained = Trained(
        directory=None, manifest=Manifest(stage="train", model="identity", created=""), signature=identity(shape), golden=rows
    )
    servable = Servable(name="torch-mar", source="torch", format="mar-eager", path="x", size_bytes=1, export_s=0.0)
    about = check.Check(servable=servable, trained=trained, tolerance=5e-5, reproduce="python -m x")

    def answer(inputs):
        return {"same": predict(inputs["image_bytes"]) if images.INPUT in inputs else inputs["values"]}

    return check.run(about, answer, [], pictures)["artifact"]


def corners(array, height, width):
    places = [np.linspace(0, size - 1, new).round().astype(int) for size, new in zip(array.shape, (height, width), strict=False)]
    return array[places[0]][:, places[1]]


def antialiased(array, height, width):
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in np.moveaxis(array, 2, 0)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


@pytest.mark.parametrize("shape", [(8, 8, 1), (6, 10, 3)])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("right", None),
        ("scale", lambda array, white: array.astype(np.float32)),
        ("scale", lambda array, white: array.astype(np.float32) / 127.5 - 1),
        ("resize", corners),
        ("resize", antialiased),
        ("decode", lambda data, channels, limit: handler_decode(data, channels, limit)[:, ::-1]),
        ("decode", lambda data, channels, limit: blue_first(data, channels)),
    ],
    ids=["right", "not scaled", "from -1 to 1", "nearest", "antialiased", "mirrored", "blue first"],
)
def test_golden_images_tell_every_other_preprocessing(monkeypatch, shape, name, change):
    drawn = golden_images.draw(RNG.random((30, *shape), dtype=np.float32))
    assert {len(found) for found in drawn.values()} == {images.NUM_OF_MODEL_SIZE + 8}
    takes = decoder(shape)

    def predict(found):
        return np.stack([takes.pixels(data) for data in found])

    pictures = {e: Golden(inputs={images.INPUT: images.rows(d)}, outputs={"same": predict(d)}) for e, d in drawn.items()}
    if change is None:
        record = examine(predict, shape, pictures)
        assert (record["status"], record["max_abs_difference"]) == ("verified", 0.0)
        return
    monkeypatch.setattr(handler, name, change)
    with pytest.raises(check.RefusedError, match="batch of 1, encoding png: largest difference"):
        examine(predict, shape, pictures)


handler_decode = handler.decode


def blue_first(data, channels):
    with Image.open(io.BytesIO(data)) as image:
        swapped = Image.fromarray(np.asarray(image.convert("RGB"))[..., ::-1].copy())
    return np.asarray(swapped.convert("L" if channels == 1 else "RGB")).reshape(swapped.height, swapped.width, channels)

"""Pictures into tensors and back, and sheets of them."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ganzoo.errors import UserError
from ganzoo.processors import ImageProcessor, make_grid, processor_from_json, to_pil


def grey(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


def test_normalise_and_back_is_exact_for_every_value():
    processor = ImageProcessor(resolution=16, channels=1)
    stored = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    space = processor.normalize(stored)
    assert space.dtype == torch.float32 and space.min() == -1 and space.max() == 1
    assert torch.equal(processor.to_stored(space), stored)
    assert torch.equal(processor.to_stored(space.bfloat16().float()), processor.to_stored(space.bfloat16()))
    (picture,) = processor.decode(space, "pil")
    assert np.array_equal(processor.encode(picture), stored[0].numpy())
    assert np.allclose(processor.decode(space, "np")[0, ..., 0] * 255, stored[0, 0].numpy(), atol=1e-4)
    beyond = torch.tensor([-7.0, -1.001, 1.001, 7.0]).reshape(1, 1, 2, 2)
    assert processor.to_stored(beyond).flatten().tolist() == [0, 0, 255, 255]
    assert processor.decode(beyond, "pt").flatten().tolist() == [0, 0, 1, 1]


def test_decoding_leaves_its_input_alone():
    processor = ImageProcessor(resolution=2, channels=1)
    samples = torch.full((1, 1, 2, 2), 0.5)
    for output_type in ("pil", "np", "pt"):
        processor.decode(samples, output_type)
    processor.to_stored(samples)
    assert torch.equal(samples, torch.full((1, 1, 2, 2), 0.5))


WIDE = grey([[0, 0, 90, 80, 70, 60, 0, 0]] * 4)  # 8 x 4, something in the middle


def test_crop_keeps_the_middle():
    processor = ImageProcessor(resolution=4, channels=1, fit="crop")
    assert np.array_equal(processor.encode(WIDE)[0], WIDE[:, 2:6])
    assert np.array_equal(processor.encode(WIDE.T.copy())[0], WIDE[:, 2:6].T)
    large = np.kron(WIDE, np.ones((8, 8), np.uint8))
    assert np.abs(processor.encode(large)[0].astype(int) - WIDE[:, 2:6]).max() <= 6  # Lanczos smooths a little


def test_stretch_keeps_everything():
    halves = grey([[0] * 8 + [200] * 8] * 4)  # 16 x 4
    encoded = ImageProcessor(resolution=4, channels=1, fit="stretch").encode(halves)[0]
    assert encoded.shape == (4, 4)
    assert (encoded[:, 0] <= 10).all() and (encoded[:, 3] >= 190).all()
    assert np.abs(encoded.mean() - 100) < 5


def test_pad_centres_without_scaling():
    processor = ImageProcessor(resolution=4, channels=1, fit="pad")
    assert np.array_equal(processor.encode(grey([[1, 2], [3, 4]]))[0], np.pad(grey([[1, 2], [3, 4]]), 1))
    assert np.array_equal(processor.encode(grey([[9] * 3]))[0], np.pad(grey([[9] * 3]), ((1, 2), (0, 1))))
    with pytest.raises(UserError, match="fit='pad' does not scale: a picture of 8x4 pixels is larger than 4x4"):
        processor.encode(WIDE)


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_what_fits_is_not_touched(fit):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    processor = ImageProcessor(resolution=8, channels=3, fit=fit)
    assert np.array_equal(processor.encode(noise), noise.transpose(2, 0, 1))
    assert processor.encode(noise).flags["C_CONTIGUOUS"]


def test_channels_are_converted():
    colour = Image.new("RGB", (4, 4), (255, 0, 0))
    assert ImageProcessor(resolution=4, channels=1).encode(colour).max() == 76  # ITU-R 601 luma of red
    assert ImageProcessor(resolution=4, channels=3).encode(Image.new("L", (4, 4), 7)).tolist() == [[[7] * 4] * 4] * 3
    assert ImageProcessor(resolution=4, channels=4).encode(colour)[3].min() == 255
    two = np.random.default_rng(0).integers(0, 256, (4, 4, 2), dtype=np.uint8)
    assert np.array_equal(ImageProcessor(resolution=4, channels=2).encode(two), two.transpose(2, 0, 1))
    with pytest.raises(UserError, match=r"1, 3 or 4 channels, not 2; pass arrays \(H, W, 2\)"):
        ImageProcessor(resolution=4, channels=2).encode(colour)
    with pytest.raises(UserError, match=r"expected a uint8 array of shape \(4, 4, 2\)"):
        ImageProcessor(resolution=4, channels=2).encode(two[:3])


def test_arrays_with_a_channel_axis_of_one():
    square = np.arange(16, dtype=np.uint8).reshape(4, 4)
    processor = ImageProcessor(resolution=4, channels=1)
    assert np.array_equal(processor.encode(square[..., None]), processor.encode(square))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint16, bool])
def test_arrays_of_another_type_are_refused(dtype):
    """Pillow would take floats between 0 and 1 for black, and uint16 for white."""
    with pytest.raises(UserError, match=r"pixels must be uint8 \(0 to 255\), not"):
        ImageProcessor(resolution=4, channels=1).encode(np.ones((4, 4), dtype))


def test_sixteen_bit_pictures_are_scaled():
    deep = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    assert ImageProcessor(resolution=2, channels=1).encode(file.getvalue())[0].tolist() == [[0, 100], [200, 255]]
    with pytest.raises(UserError, match="32-bit pixels has no known range"):
        ImageProcessor(resolution=2, channels=1).encode(Image.new("F", (2, 2)))


def file_of(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


HIDDEN = np.zeros((4, 4, 4), np.uint8)  # red above; below it nothing is seen, though red, too, stands there
HIDDEN[..., 0], HIDDEN[:2, :, 3] = 200, 255
RED, SPLIT = HIDDEN[..., :3], np.uint8([[200] * 4] * 2 + [[0] * 4] * 2)  # no alpha; red above, black below
TRANSPARENT = {
    "array": HIDDEN,
    "picture": Image.fromarray(HIDDEN),
    "premultiplied": Image.fromarray(HIDDEN).convert("RGBa"),
    "png": file_of(Image.fromarray(HIDDEN)),
    "webp": file_of(Image.fromarray(HIDDEN), "WEBP", lossless=True, exact=True),
    "palette": file_of(
        Image.fromarray(SPLIT).quantize(2), transparency=Image.fromarray(SPLIT).quantize(2).getpixel((0, 3))
    ),
    "gif": file_of(
        Image.fromarray(SPLIT).quantize(2), "GIF", transparency=Image.fromarray(SPLIT).quantize(2).getpixel((0, 3))
    ),
    "grey": file_of(Image.fromarray(SPLIT), transparency=0),
    "16 bits": file_of(Image.fromarray(SPLIT.astype(np.uint16) * 257), transparency=0),
    "colour": file_of(Image.fromarray(np.stack([SPLIT] * 3, axis=-1)), transparency=(0, 0, 0)),
    "grey and alpha": np.stack([np.full((4, 4), 200, np.uint8), HIDDEN[..., 3]], axis=-1),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_transparent_shows_the_background_and_not_the_colour_hidden_in_it(kind, channels):
    def encode(**options):
        return ImageProcessor(resolution=4, channels=channels, **options).encode(TRANSPARENT[kind]).astype(int)

    assert (encode()[:, 2:] == 255).all() and (encode()[:, :2] < 255).any()
    assert (encode(background="black")[:, 2:] == 0).all()
    np.testing.assert_array_equal(encode(background="black")[:, :2], encode()[:, :2])
    green = encode(background="#00ff00")[:, 2:]
    assert (green == np.reshape([0, 255, 0] if channels == 3 else [150], (-1, 1, 1))).all()


def test_half_transparent_pixels_are_mixed_with_the_background():
    half = HIDDEN.copy()
    half[..., 3] = 51  # a fifth
    encoded = ImageProcessor(resolution=4).encode(half)
    assert np.abs(encoded[:, 0, 0].astype(int) - [0.2 * 200 + 0.8 * 255, 0.8 * 255, 0.8 * 255]).max() <= 1


@pytest.mark.parametrize("fit", ["crop", "stretch", "pad"])
def test_a_fourth_channel_keeps_transparency_and_hides_no_colour(fit):
    large = HIDDEN if fit == "pad" else np.kron(HIDDEN, np.ones((4, 4, 1), np.uint8))
    encoded = ImageProcessor(resolution=4, channels=4, fit=fit).encode(large)
    assert encoded[3, [0, 3]].tolist() == [[255] * 4, [0] * 4]
    assert np.abs(encoded[:3, 0].astype(int) - [[200], [0], [0]]).max() <= 6 and (encoded[:3, 3] == 255).all()
    beside = ImageProcessor(resolution=8, channels=4, fit="pad", background="#010203").encode(large[:4, :4])
    assert beside[:, 0, 0].tolist() == [1, 2, 3, 0]


def test_sheets_of_transparent_pictures_show_the_background():
    hidden = torch.from_numpy(HIDDEN.transpose(2, 0, 1)[None].copy())
    assert np.asarray(make_grid(hidden, padding=0))[[0, 3], 0].tolist() == [[200, 0, 0], [255, 255, 255]]
    processor = ImageProcessor(resolution=4, channels=4, background="blue")
    sheet = np.asarray(processor.sheet(processor.normalize(hidden)))
    assert sheet[[2, -3], 2].tolist() == [[200, 0, 0], [0, 0, 255]]


def test_a_processor_from_before_backgrounds_reads_as_it_did():
    """Published classifiers judge the colours they were trained on, hidden or not."""
    saved = {"processor_type": "image", "resolution": 4, "channels": 3, "fit": "crop", "margin": 0}
    old = processor_from_json(saved, where="test")
    assert old.background is None
    assert np.array_equal(old.encode(HIDDEN), RED.transpose(2, 0, 1))
    now = json.loads(ImageProcessor(resolution=4).to_json())
    assert processor_from_json(now, where="test").background == "white"
    assert processor_from_json(json.loads(old.to_json()), where="test") == old


@pytest.mark.parametrize("colour", ["whit", "#12", "#ff000080", "", 3])
def test_a_background_is_a_colour(colour):
    with pytest.raises(UserError, match="background"):
        ImageProcessor.from_dict({"resolution": 4, "background": colour})


@pytest.mark.parametrize(
    "raw", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", "missing.png", "null\0byte", None, 3, [1], {}, "/"]
)
def test_what_is_no_picture_is_refused(raw):
    with pytest.raises(UserError, match="cannot read .* as a picture"):
        ImageProcessor(resolution=4, channels=1).encode(raw)


def test_records_of_the_datasets_library(tmp_path):
    Image.new("L", (4, 4), 9).save(tmp_path / "nine.png")
    content = (tmp_path / "nine.png").read_bytes()
    processor = ImageProcessor(resolution=4, channels=1)
    for record in ({"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "nine.png")}):
        assert processor.encode(record).tolist() == [[[9] * 4] * 4]


def test_a_sheet_shows_every_picture_in_its_place():
    stored = torch.arange(5, dtype=torch.uint8).mul(50).reshape(5, 1, 1, 1).expand(5, 1, 3, 3)
    sheet = np.asarray(make_grid(stored, columns=2, padding=1, scale=2))
    assert sheet.shape == (3 * 7 + 1, 2 * 7 + 1, 3)
    for index in range(5):
        row, column = divmod(index, 2)
        tile = sheet[1 + 7 * row : 7 + 7 * row, 1 + 7 * column : 7 + 7 * column]
        assert (tile == 50 * index).all()
    assert (sheet[15:, 8:] == 40).all() and (sheet[0] == 40).all() and (sheet[:, 7] == 40).all()
    assert make_grid(stored).size == (3 * 5 + 2, 2 * 5 + 2)  # as square as it gets, 2 pixels between


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_pil_round_trip(channels, mode):
    stored = torch.randint(0, 256, (2, channels, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = to_pil(stored)
    assert [picture.mode for picture in pictures] == [mode, mode]
    processor = ImageProcessor(resolution=4, channels=channels)
    assert np.array_equal(np.stack([processor.encode(picture) for picture in pictures]), stored.numpy())


def test_a_wrong_background_by_command(fails, inside):
    run = ("train", "dcgan-digits", "--output", "run")
    fails(*run, "data.processor.background=whit", code=2, said=("background", "'whit'"))
    assert list(inside.iterdir()) == []

"""Decoding says what it changed and refuses what it cannot trust; resizing is antialiased and centred."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raresight.data import transforms
from raresight.data.transforms import UndecodableError, decode, from_array, resize, to_mask

RED = (200, 40, 20)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_lossless_rgb_comes_back_as_it_was() -> None:
    pixels = noise(5, 7)
    picture = decode(encoded(Image.fromarray(pixels)), channels=3)
    assert np.array_equal(picture.pixels, pixels)
    assert (picture.width, picture.height, picture.changed) == (7, 5, ())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_depth(kind: str) -> None:
    values = np.array([[0, 1, 255], [256, 4095, 65535]], dtype=np.uint16)
    content = encoded(Image.fromarray(values), kind)
    picture = decode(content, channels=1)
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels[..., 0], values)
    assert transforms.bits(content) == 16
    assert np.array_equal(decode(content, channels=3).pixels, np.repeat(values[..., None], 3, axis=2))


def test_16_bit_colour_is_told() -> None:
    # a 1 x 1 PNG of 16-bit RGB, written by hand: Pillow cannot write one, and reads the high bytes
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    body = zlib.compress(b"\0" + struct.pack(">HHH", 0xFF00, 0x8000, 0x0100))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    picture = decode(content, channels=3)
    assert picture.changed == ("16-bit colour",)
    assert picture.pixels.tolist() == [[[0xFF, 0x80, 0x01]]]


def test_alpha_is_dropped_and_told() -> None:
    image = Image.new("RGBA", (4, 4), (*RED, 0))
    picture = decode(encoded(image), channels=3)
    assert picture.changed == ("alpha",)
    assert picture.pixels[0, 0].tolist() == list(RED)  # not black, although fully transparent


def test_palette_becomes_colour_and_is_told() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    picture = decode(encoded(image), channels=3)
    assert picture.changed == ("palette",)
    assert picture.pixels[2, 3].tolist() == list(RED)


def test_cmyk_becomes_colour_and_is_told() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    picture = decode(encoded(image, "TIFF"), channels=3)
    assert picture.changed == ("CMYK",)
    assert picture.pixels[0, 0].tolist() == [255, 0, 0]


def test_exif_rotation_is_carried_out_and_told() -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn 90 degrees clockwise to view": left goes up
    picture = decode(encoded(Image.fromarray(pixels), "JPEG", exif=exif, quality=95), channels=3)
    assert picture.changed == ("EXIF rotation",)
    assert (picture.width, picture.height) == (16, 32)
    assert picture.pixels[:12].min() > 240
    assert picture.pixels[20:].max() < 15


def test_grey_and_colour() -> None:
    grey = decode(encoded(Image.new("L", (3, 3), 77)), channels=3).pixels
    assert grey.shape == (3, 3, 3)
    assert np.unique(grey).tolist() == [77]
    # ITU-R 601: 0.299 * 200 + 0.587 * 40 + 0.114 * 20 = 85.56
    assert decode(encoded(Image.new("RGB", (3, 3), RED)), channels=1).pixels[0, 0, 0] in (85, 86)
    assert from_array(np.full((2, 2, 3), RED, dtype=np.uint8), 1).pixels[0, 0, 0] == 86


def test_large_jpeg_is_decoded_at_a_smaller_scale() -> None:
    content = encoded(Image.fromarray(noise(512, 640)), "JPEG")
    picture = decode(content, channels=3, at_least=32)
    assert picture.pixels.shape == (64, 80, 3)  # an eighth: the short side is still twice 32
    assert (picture.width, picture.height) == (640, 512)
    assert decode(content, channels=3, at_least=200).pixels.shape == (512, 640, 3)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "RS-I21", "empty"),
        (encoded(Image.fromarray(noise(64, 64)), "JPEG")[:700], "RS-I21", "damaged"),
        (encoded(Image.fromarray(noise(64, 64)))[:5000], "RS-I21", "damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"junk" * 20, "RS-I21", "damaged"),
        (b"<!DOCTYPE html><html>404 Not Found</html>", "RS-I22", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "RS-I22", "LFS"),
        (b"\0" * 128 + b"DICM" + b"\0" * 50, "RS-I22", "DICOM"),
        (b"hello, I am a text file", "RS-I22", "not an image"),
    ],
)
def test_what_cannot_be_trusted_is_refused(content: bytes, code: str, words: str) -> None:
    with pytest.raises(UndecodableError) as caught:
        decode(content, channels=3, name="a.jpg")
    assert caught.value.code == code
    assert words in caught.value.found
    assert caught.value.remedy


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UndecodableError, match=r"RS-I21.*cannot be opened"):
        decode(tmp_path / "none.png", channels=3)


def test_decompression_bomb_is_refused_from_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "PIXEL_LIMIT", 1000)
    with pytest.raises(UndecodableError, match=r"RS-I31.*40 x 30"):
        decode(encoded(Image.new("L", (40, 30))), channels=1)


def test_a_real_bomb_is_refused_without_decoding() -> None:
    content = bytearray(encoded(Image.new("L", (8, 8))))
    content[16:24] = struct.pack(">II", 60_000, 60_000)  # 3.6 gigapixels by its header
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    with pytest.raises(UndecodableError, match="RS-I31"):
        decode(bytes(content), channels=1)


def test_several_frames_are_refused() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (1, 2, 3)]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(UndecodableError, match=r"RS-I28.*3 frames"):
        decode(content, channels=1)


def test_floats_are_refused() -> None:
    with pytest.raises(UndecodableError, match="RS-I23"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), dtype=np.float32)), "TIFF"), channels=1)


def test_an_extension_that_lies_is_told_but_read() -> None:
    assert decode(encoded(Image.new("RGB", (4, 4))), channels=3, name="a.jpg").changed == ("wrong extension",)
    assert decode(encoded(Image.new("RGB", (4, 4))), channels=3, name="a.PNG").changed == ()


def test_resize_keeps_the_middle_square() -> None:
    pixels = np.zeros((10, 30, 1), dtype=np.uint8)
    pixels[:, 10:20] = 200  # the middle square of 10 x 10
    assert resize(pixels, 10)[..., 0].tolist() == [[200] * 10] * 10
    # bicubic reaches a little over the border of the square, into black; off by one column it would be below 150
    assert np.abs(resize(pixels, 5).astype(int) - 200).max() < 15


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resize_is_antialiased(dtype: type) -> None:
    # single-pixel checkerboard: any averaging filter gives the mean, nearest-neighbour gives 0 or the peak
    peak = np.iinfo(dtype).max
    board = ((np.indices((64, 64)).sum(axis=0) % 2) * peak).astype(dtype)[..., None]
    small = resize(board, 8)
    assert small.dtype == dtype
    assert np.abs(small[2:-2, 2:-2].astype(float) / peak - 0.5).max() < 0.02


def test_resize_of_both_depths_agrees() -> None:
    pixels = noise(40, 50)
    wide = resize(pixels.astype(np.uint16) * 257, 16) / 257
    assert np.abs(wide - resize(pixels, 16)).max() < 1.0  # one rounding of 8 bits


def test_mask_keeps_its_area() -> None:
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:40] = True
    small = to_mask(encoded(Image.fromarray(mask)), 20)
    assert small.dtype == bool
    expected = np.zeros((20, 20), dtype=bool)
    expected[5:15, 5:15] = True  # columns 20..40 of 60, less the 10 cut away on the left, halved
    assert np.array_equal(small, expected)


def test_array_members_of_other_shapes_are_refused() -> None:
    for array in (np.zeros((4, 4), dtype=np.float32), np.zeros((4, 4, 4), dtype=np.uint8)):
        with pytest.raises(UndecodableError, match="RS-I28"):
            from_array(array, 3)

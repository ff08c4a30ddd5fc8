"""From the bytes of an image file to a square array: decode with nothing silent, then resize.

A file that cannot be trusted raises `UndecodableError`; it is never replaced by a black picture. What had to be
converted on the way (alpha, palette, CMYK, EXIF rotation, ...) is named in the result, so that it can be told.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PIXEL_LIMIT = 100_000_000
"""The largest picture that is opened, in pixels: more is taken for a decompression bomb."""

_ORIENTATION = 0x0112
_PNG = b"\x89PNG\r\n\x1a\n"
_SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "TIFF": {".tif", ".tiff"},
}


class UndecodableError(Exception):
    """An image that must be quarantined: `code`, `found`, `why` and `remedy` of the `Problem` to be."""

    def __init__(self, code: str, found: str, why: str, remedy: str) -> None:
        super().__init__(f"{code} {found}")
        self.code, self.found, self.why, self.remedy = code, found, why, remedy


@dataclass(frozen=True)
class Picture:
    """`content` is an 8-bit image of Pillow's, or an array `(H, W, C)` uint8 or uint16.

    `width` and `height` are those of the picture in the file, upright.

    `content` may be smaller than the file's picture (a JPEG decoded at a half, a quarter or an eighth).
    `changed` names what was converted: alpha, palette, CMYK, EXIF rotation, 16-bit colour, wrong extension.
    """

    content: Image.Image | np.ndarray
    width: int
    height: int
    changed: tuple[str, ...] = ()

    @property
    def pixels(self) -> np.ndarray:
        """`(H, W, C)` uint8 or uint16."""
        return as_array(self.content)


def decode(source: Path | bytes, *, channels: int, at_least: int | None = None, name: str = "") -> Picture:
    """Decode one image file to grey (`channels` 1) or red, green, blue (`channels` 3).

    Grey files of 16 bit keep them (uint16); everything else is uint8. Alpha is dropped, palettes and CMYK become RGB,
    an EXIF rotation is carried out. `at_least` allows a JPEG to be decoded at a smaller scale whose short side is
    still at least twice that number, which is several times faster and leaves enough for an antialiased resize.
    `name` (of the file, when bytes are given) is compared with the content.

    Raises: UndecodableError for a missing, empty, truncated, foreign or oversized file, or one with several frames.
    """
    if isinstance(source, Path):
        name = name or source.name
        try:
            source = source.read_bytes()
        except OSError as error:
            raise unreadable(f"cannot be opened ({error.strerror or error})") from error
    if not source:
        raise unreadable("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(source)) as image:
            return _read(image, source, channels, at_least, name)
    except UnidentifiedImageError as error:
        raise _foreign(source) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(str(error)) from error
    # Pillow's decoders raise all of these on damaged files
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise unreadable(f"is damaged ({error})") from error


def resize(picture: Image.Image | np.ndarray, size: int) -> np.ndarray:
    """Scale the short side to `size` and keep the middle: `(H, W, C)`, or an 8-bit image, to `(size, size, C)`.

    Antialiased bicubic, so that shrinking makes no moiré of hair and pigment network. The dtype stays.
    """
    return np.ascontiguousarray(as_array(resized(picture, size)))


def resized(picture: Image.Image | np.ndarray, size: int) -> Image.Image | np.ndarray:
    """As `resize`; what was worked on as an image stays one."""
    if isinstance(picture, np.ndarray):
        if picture.shape[:2] == (size, size):
            return picture
        if picture.dtype != np.uint8:
            return _resize_deep(picture, size)
        picture = as_image(picture)
    if picture.size == (size, size):
        return picture
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=centre_square(*picture.size))


def as_array(picture: Image.Image | np.ndarray) -> np.ndarray:
    """`(H, W, C)` uint8 or uint16."""
    pixels = np.asarray(picture)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def as_image(picture: Image.Image | np.ndarray) -> Image.Image:
    """An 8-bit image; of 16 bits, the upper eight."""
    if isinstance(picture, Image.Image):
        return picture
    pixels = (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else picture
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _resize_deep(pixels: np.ndarray, size: int) -> np.ndarray:
    height, width, _ = pixels.shape
    box = centre_square(width, height)
    planes = [
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC, box=box))
        for plane in np.moveaxis(pixels, 2, 0).astype(np.float32)
    ]
    highest = np.iinfo(pixels.dtype).max
    return np.clip(np.rint(np.stack(planes, axis=2)), 0, highest).astype(pixels.dtype)


def to_mask(source: Path | bytes, size: int) -> np.ndarray:
    """Decode a mask file and bring it to `(size, size)` bool with the same crop as `resize`: inside where not 0.

    A pixel of the result is inside where at least half of what it covers is.
    Raises: UndecodableError.
    """
    inside = decode(source, channels=1).pixels[..., 0] > 0
    height, width = inside.shape
    share = Image.fromarray(inside.astype(np.float32))
    box = centre_square(width, height)
    return np.asarray(share.resize((size, size), Image.Resampling.BOX, box=box)) >= 0.5


def centre_square(width: int, height: int) -> tuple[float, float, float, float]:
    """The largest square in the middle: left, top, right, bottom in pixels."""
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def from_array(array: np.ndarray, channels: int) -> Picture:
    """One image of an array file, `(H, W)`, `(H, W, 1)` or `(H, W, 3)` of uint8 or uint16, as a `Picture`.

    Raises: UndecodableError for any other shape or dtype: what its numbers mean would be a guess.
    """
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.dtype not in (np.uint8, np.uint16):
        raise UndecodableError(
            "RS-I28",
            f"holds {array.dtype} of shape {array.shape}",
            "a 2D study needs (H, W), (H, W, 1) or (H, W, 3) of uint8 or uint16",
            "convert the array, or pick one frame of a volume",
        )
    height, width, _ = array.shape
    return Picture(_with_channels(array, channels), width, height)


def bits(head: bytes) -> int:
    """Bits a channel of a grey PNG or TIFF file, 8 or 16, from its first bytes; anything else is read as 8 bits."""
    if head[:8] == _PNG:
        return 16 if head[24:26] == b"\x10\x00" else 8
    if head[:4] in (b"II*\0", b"MM\0*"):
        try:
            with Image.open(io.BytesIO(head)) as image:
                return 16 if image.mode.startswith("I") else 8
        except Exception:  # a TIFF whose directory stands at its end: told by whoever reads the whole file
            return 8
    return 8


def unreadable(what: str) -> UndecodableError:
    return UndecodableError(
        "RS-I21",
        f"the image {what}",
        "it holds no picture to learn from, and a black substitute would teach nonsense",
        "fetch the file again, or remove the row",
    )


def _read(image: Image.Image, source: bytes, channels: int, at_least: int | None, name: str) -> Picture:
    if image.width * image.height > PIXEL_LIMIT:
        raise _bomb(f"{image.width} x {image.height} pixels")
    if image.format in ("TIFF", "GIF", "PNG", "WEBP") and getattr(image, "n_frames", 1) > 1:
        raise UndecodableError(
            "RS-I28",
            f"the file holds {getattr(image, 'n_frames', 1)} frames",
            "a 2D study would see the first one alone",
            "save the frame that was read by the doctor as a file of its own",
        )
    changed = _conversions(image, source, name)
    width, height = image.size
    if at_least is not None and image.format == "JPEG":
        image.draft(None, (2 * at_least, 2 * at_least))
    image.load()
    if "EXIF rotation" in changed:
        upright = ImageOps.exif_transpose(image)
        if (upright.width > upright.height) != (width > height):
            width, height = height, width
        image = upright
    return Picture(_content(image, channels), width, height, changed)


def _conversions(image: Image.Image, source: bytes, name: str) -> tuple[str, ...]:
    """What has to be converted, in words; looked up in the header before the pixels are read."""
    changed = []
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        changed.append("alpha")
    if image.mode in ("P", "PA"):
        changed.append("palette")
    if image.mode == "CMYK":
        changed.append("CMYK")
    if image.getexif().get(_ORIENTATION, 1) not in (0, 1):
        changed.append("EXIF rotation")
    if source[:8] == _PNG and source[24:25] == b"\x10" and not image.mode.startswith("I"):
        changed.append("16-bit colour")  # Pillow reads these as 8 bits a channel
    suffix = Path(name).suffix.lower()
    if suffix and suffix not in _SUFFIXES.get(image.format or "", {suffix}):
        changed.append("wrong extension")
    return tuple(changed)


def _content(image: Image.Image, channels: int) -> Image.Image | np.ndarray:
    if image.mode == "F":
        raise UndecodableError(
            "RS-I23",
            "the image holds floating-point numbers",
            "black and white are not defined for it, so any scaling would be a guess",
            "save it as 8-bit or 16-bit whole numbers",
        )
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (int(values.min()) < 0 or int(values.max()) > 65535):
            raise UndecodableError(
                "RS-I23",
                f"pixel values go from {values.min()} to {values.max()}",
                "they do not fit in 16 bits and would be clipped",
                "rescale the image to 0-65535 and save it again",
            )
        return _with_channels(values.astype(np.uint16)[..., None], channels)
    wanted = "L" if channels == 1 else "RGB"
    if image.mode != wanted:
        # through RGB: a direct conversion of a palette to grey would drop its transparency otherwise than RGB does
        image = image.convert("RGB").convert(wanted) if image.mode in ("P", "PA", "CMYK") else image.convert(wanted)
    return image


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    grey = pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as Pillow does
    return np.rint(grey).astype(pixels.dtype)[..., None]


def _foreign(source: bytes) -> UndecodableError:
    head = source[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<")):
        what = "an HTML or XML page, often the error page of a failed download"
    elif source[128:132] == b"DICM":
        what = "a DICOM file"
    elif head.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer, not the picture itself"
    elif source.startswith((b"\xff\xd8", _PNG, b"II*\0", b"MM\0*")):
        return unreadable("is damaged (its header cannot be read)")
    else:
        what = "not an image that Pillow knows"
    return UndecodableError(
        "RS-I22",
        f"the content is {what}",
        "the extension promises a picture and there is none",
        "fetch the file again, or convert it to PNG or JPEG",
    )


def _bomb(what: str) -> UndecodableError:
    return UndecodableError(
        "RS-I31",
        f"the image is too large: {what} (limit {PIXEL_LIMIT:,} pixels)",
        "decoding it could fill the memory (a decompression bomb)",
        "shrink the image, or cut it into tiles",
    )

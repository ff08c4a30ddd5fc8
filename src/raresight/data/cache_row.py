"""One row of the cache: from an entry of the manifest to a square array and the facts about it."""

from __future__ import annotations

import hashlib
import re
import threading
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raresight.data.array_file import array_of, dtype_of
from raresight.data.disk import is_full
from raresight.data.transforms import (
    UndecodableError,
    as_array,
    as_image,
    bits,
    decode,
    from_array,
    resized,
    unreadable,
)

_MEMBER = re.compile(r"^(?P<file>.+\.npz)#(?P<array>[^\[\]]+)\[(?P<index>\d+)\]$")
BLANK = 0.01  # of the full scale: a picture whose pixels differ by less shows nothing
FACTS = ("file_sha256", "pixel_hash", "dhash", "width", "height")


@dataclass
class Row:
    """What is kept of one image. `pixels` is `(size, size, C)`, or None where the image is quarantined; then `code`,
    `found`, `why` and `remedy` say the reason. `checksum` is the CRC-32 of the pixels' bytes."""

    image: str
    file_bytes: int
    mtime_ns: int
    file_sha256: str = ""
    pixel_hash: str = ""
    dhash: str = ""
    width: int = 0
    height: int = 0
    checksum: int = 0
    changed: str = ""
    code: str = ""
    found: str = ""
    why: str = ""
    remedy: str = ""
    pixels: np.ndarray | None = field(default=None, repr=False)

    def record(self) -> dict[str, Any]:
        """All but the pixels, as plain values."""
        return {name: value for name, value in vars(self).items() if name != "pixels"}


class Sources:
    """The images of a manifest, files or members of array files (`file.npz#array[index]`), below one folder.

    `scratch`: the folder where large arrays are unpacked, the system's own for temporary files where it is None.
    """

    def __init__(self, root: Path, scratch: Path | None = None) -> None:
        self.root, self.scratch = root, scratch
        self._arrays: dict[tuple[str, str], np.ndarray] = {}
        self._depths: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def stat(self, image: str) -> tuple[int, int]:
        """Size in bytes and time of the last change in ns of the file behind `image`; `(-1, -1)` if there is none."""
        try:
            found = self._path(image).stat()
        except (OSError, ValueError):
            return -1, -1
        return found.st_size, found.st_mtime_ns

    def depth(self, image: str) -> int:
        """8 or 16: bits a channel, without decoding. A file that cannot be read counts as 8."""
        if member := _MEMBER.match(image):
            held = member["file"], member["array"]
            if held not in self._depths:
                try:
                    self._depths[held] = 16 if dtype_of(self.root / held[0], held[1]) == np.uint16 else 8
                except Exception:  # damaged: told where the array is read
                    self._depths[held] = 8
            return self._depths[held]
        if not image.lower().endswith((".png", ".tif", ".tiff")):
            return 8
        path = self._path(image)
        try:
            with path.open("rb") as stream:
                head = stream.read(32)
                return bits(head + stream.read()) if head[:2] in (b"II", b"MM") else bits(head)
        except OSError:
            return 8

    def read(self, image: str) -> bytes | np.ndarray:
        """The undecoded content. Raises: UndecodableError."""
        if member := _MEMBER.match(image):
            array, index = self._array(member["file"], member["array"]), int(member["index"])
            if index >= len(array):
                raise unreadable(f"is missing: the array holds {len(array)} images, the first one is [0]")
            return array[index]
        try:
            return self._path(image).read_bytes()
        except FileNotFoundError as error:
            raise unreadable("is missing (no such file)") from error
        except (OSError, ValueError) as error:
            raise unreadable(f"cannot be opened ({getattr(error, 'strerror', None) or error})") from error

    def _path(self, image: str) -> Path:
        member = _MEMBER.match(image)
        return self.root / (member["file"] if member else image)

    def _array(self, file: str, name: str) -> np.ndarray:
        """One array of an array file, opened once; the last two stay open, because rows come in order."""
        with self._lock:
            if (file, name) not in self._arrays:
                try:
                    loaded = array_of(self.root / file, name, self.scratch)
                except KeyError as error:
                    raise unreadable(f"is missing: {file} has no array '{name}'") from error
                except OSError as error:
                    if is_full(error):  # the picture is not at fault
                        raise
                    raise unreadable(f"cannot be read from {file} ({error})") from error
                except Exception as error:  # zipfile, zlib and numpy raise many kinds on a damaged file
                    raise unreadable(f"cannot be read from {file} ({error})") from error
                while len(self._arrays) > 1:
                    self._arrays.pop(next(iter(self._arrays)))
                self._arrays[file, name] = loaded
            return self._arrays[file, name]


def prepare(row: Row, content: bytes | np.ndarray, *, size: int, channels: int, dtype: np.dtype) -> Row:
    """Decode `content` into `row`: pixels, checksum and facts. Raises: UndecodableError.

    `pixel_hash` is taken from the resized pixels and the size of the picture: two files share it where the network
    would see the same, whatever their bytes. A picture that shows nothing shares it with copies of its own file alone:
    empty slices of two patients are equal, and no copies of each other.
    """
    if isinstance(content, bytes):
        picture = decode(content, channels=channels, at_least=size, name=row.image)
    else:
        picture = from_array(content, channels)
    row.width, row.height, row.changed = picture.width, picture.height, ";".join(picture.changed)
    square = resized(picture.content, size)
    pixels = as_array(square)
    if pixels.dtype.itemsize > dtype.itemsize:
        raise _deeper()
    if pixels.dtype != dtype:  # an 8-bit picture among 16-bit ones: white stays white
        pixels = pixels.astype(dtype) * dtype.type(257)
    row.pixels = np.ascontiguousarray(pixels)
    row.checksum = zlib.crc32(row.pixels.data)
    told_apart_by = row.file_sha256 if shows_nothing(row.pixels) else ""
    row.pixel_hash = pixel_hash(row.pixels, picture.width, picture.height, told_apart_by)
    row.dhash = dhash(square)  # of what the network sees, as all that finds duplicates is; also the cheaper one
    return row


def shows_nothing(pixels: np.ndarray) -> bool:
    """Whether all pixels of a row are alike: they differ by less than 1% of the full scale."""
    return int(pixels.max()) - int(pixels.min()) < BLANK * np.iinfo(pixels.dtype).max


def _deeper() -> UndecodableError:
    return UndecodableError(
        "RS-I23",
        "the image has 16 bits a channel, where pictures have 8",
        "which of its grey levels should become black and white is not known, and a guess would change its contrast",
        "convert it to 8 bits as the other pictures were, or name the file by what it is (.png, .tif)",
    )


def content_hash(content: bytes | np.ndarray) -> str:
    """SHA-256 of a file's bytes, or of an array member's dtype, shape and bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256(f"{content.dtype.str}{content.shape}".encode())
    digest.update(np.ascontiguousarray(content).data)
    return digest.hexdigest()


def pixel_hash(pixels: np.ndarray, width: int, height: int, told_apart_by: str = "") -> str:
    """128 bits of the SHA-256 of a row's pixels and dtype, the size of the picture that they were made of, and a text.

    Processors have instructions for SHA-256, which make it twice as fast as BLAKE2.
    """
    digest = hashlib.sha256(f"{pixels.dtype.str}{pixels.shape}{width}x{height}{told_apart_by}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]


def dhash(picture: Image.Image | np.ndarray) -> str:
    """Difference hash: 9 x 8 grey means of blocks, a bit where one is brighter than its right neighbour; 16 hex digits.

    Near-duplicates (another compression, another scale) differ in few of the 64 bits.
    Source: Krawetz, "Kind of Like That", The Hacker Factor blog (2013).
    """
    small = np.asarray(as_image(picture).resize((9, 8), Image.Resampling.BOX).convert("L"))
    return np.packbits(small[:, :-1] > small[:, 1:]).tobytes().hex()

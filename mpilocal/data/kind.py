"""What a source is: found by looking at its content, never at its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast

from mpilocal.errors import ConfigError, DataError, suggest

Kind = Literal["text", "hdf5", "npz", "idx", "cifar10", "synthetic", "sklearn"]
Packing = Literal["", "gzip", "bzip2", "xz"]

LOOK = 1 << 16
CIFAR_RECORD = 1 + 3 * 32 * 32
IDX_IMAGES = b"\x00\x00\x08\x03"
IDX_LABELS = b"\x00\x00\x08\x01"
# what no text holds, comments in UTF-8 included
BINARY = bytes(c for c in range(32) if not 9 <= c <= 13) + b"\x7f"
BROKEN = (EOFError, OSError, lzma.LZMAError, zlib.error)


class Found(NamedTuple):
    """A source, resolved and typed."""

    kind: Kind
    path: Path  # for "synthetic" and "sklearn" the name
    packing: Packing = ""
    size: int = 0  # bytes of the content where the kind needs it: CIFAR-10, plain text


def find(source: str, folder: Path) -> Found:
    """Return what `source` is.

    Args:
        source: A path, relative to `folder` or else to the working directory, or "synthetic:NAME", "sklearn:NAME".
        folder: The folder of the config.

    Raises:
        ConfigError: An unknown scheme before the colon.
        DataError: The file is missing, empty, a folder, unreadable or of no known kind.
    """
    scheme, colon, name = source.partition(":")
    if colon and scheme in ("synthetic", "sklearn"):
        return Found("synthetic" if scheme == "synthetic" else "sklearn", Path(name))
    path = locate(source, folder)
    if colon and path is None and "/" not in scheme:
        raise ConfigError(
            f'data.source = "{source}" is neither a file nor synthetic:NAME or sklearn:NAME; '
            + suggest(scheme, ["synthetic", "sklearn"])
        )
    if path is None:
        where = "no such file" if Path(source).is_absolute() else f"not in {folder}"
        if folder != Path.cwd() and not Path(source).is_absolute():
            where = f"neither in {folder} nor in {Path.cwd()}"
        raise DataError(f'data.source = "{source}" does not exist ({where}): correct the path')
    if path.is_dir():
        raise DataError(f"{path} is a folder: name one data file in it")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file: all ranks must be able to read any part of it")
    try:
        return _look(path)
    except BROKEN as error:
        said = str(error) or "it ends too early"
        raise DataError(f"{path} cannot be read ({said}): is it complete, and is it yours to read?") from None


def locate(source: str, folder: Path) -> Path | None:
    """Return the absolute path of `source`, looked for in `folder`, then in the working directory; None: absent."""
    for base in (folder, Path.cwd()):
        path = (base / Path(source).expanduser()).absolute()
        if path.exists():
            return path
    return None


def opened(path: Path, packing: Packing) -> BinaryIO:
    """Open a file to read its content, decompressed."""
    if packing == "gzip":
        return cast(BinaryIO, gzip.open(path))
    if packing == "bzip2":
        return cast(BinaryIO, bz2.open(path))
    if packing == "xz":
        return cast(BinaryIO, lzma.open(path))
    return open(path, "rb")


def _look(path: Path) -> Found:
    with open(path, "rb") as file:
        head = file.read(8)
        if not head:
            raise DataError(f"{path} is empty: write or download it again")
        # a user block of 512, 1024, … bytes may stand before HDF5's signature
        for skip in (0, 512, 1024, 2048):
            file.seek(skip)
            if file.read(8) == b"\x89HDF\r\n\x1a\n":
                return Found("hdf5", path)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Found("npz", path)
    packing = packing_of(head)
    with opened(path, packing) as content:
        begin = content.read(LOOK)
    if not begin:
        raise DataError(f"{path} holds nothing once decompressed: write or download it again")
    if begin[:4] == IDX_IMAGES:
        return Found("idx", path, packing)
    if begin[:4] == IDX_LABELS:
        raise DataError(f"{path} holds IDX labels: name the images file (…images-idx3…) as the source")
    if not any(c in begin for c in BINARY):
        return Found("text", path, packing, path.stat().st_size)
    size = length(path, packing) if max(begin[::CIFAR_RECORD]) < 10 else 0
    if size and size % CIFAR_RECORD == 0:
        return Found("cifar10", path, packing, size)
    raise DataError(
        f"{path} is of no known kind: neither HDF5, .npz, LIBSVM text, IDX images nor CIFAR-10 records "
        f"of {CIFAR_RECORD} bytes"
    )


def packing_of(head: bytes) -> Packing:
    """Return how a file is compressed from its first 6 bytes."""
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    if head[:3] == b"BZh":
        return "bzip2"
    return "xz" if head[:6] == b"\xfd7zXZ\x00" else ""


def length(path: Path, packing: Packing) -> int:
    """Return the bytes of the content, decompressed."""
    if not packing:
        return path.stat().st_size
    with opened(path, packing) as content:
        count = 0
        while piece := content.read(1 << 20):
            count += len(piece)
    return count

"""Bytes of a file, plain or compressed, with every failure told as an InputError."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from espalier.errors import InputError, StageError, did_you_mean

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_MAGIC = (
    (b"\x1f\x8b", "gzip data", "add .gz to its name, or unpack it"),
    (b"\x28\xb5\x2f\xfd", "zstd data", "add .zst to its name, or unpack it"),
    (b"PAR1", "Parquet data", "name it .parquet"),
    (b"PK\x03\x04", "a ZIP archive (or an Excel file)", "unpack it, or save it as CSV"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
)
_BLOCK = 1 << 17


def compression_of(path: Path) -> str:
    """`gzip`, `zstd` or "" by the last suffix."""
    return COMPRESSIONS.get(path.suffix.lower(), "")


def require_file(path: Path) -> None:
    """InputError when there is nothing at `path`, with the nearest name that exists."""
    if path.exists():
        return
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    if folder == path.parent:
        found = sorted(item.name for item in folder.iterdir() if not item.name.startswith("."))
        hint = did_you_mean(path.name, found, folder) or f"look into {folder}/"
    else:
        hint = f"the folder {path.parent} does not exist either; {folder}/ does"
    raise InputError(
        "The file does not exist.", where=str(path), expected="a dataset file", hint=hint
    )


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """The decompressed bytes of a file.

    Failures of the disk or of the compression, while opening or while reading, end in InputError.
    """
    kind = compression_of(path)
    try:
        with path.open("rb") as raw:
            _check_start(path, raw, kind)
            if kind == "gzip":
                with gzip.open(raw) as unpacked:
                    yield cast(BinaryIO, unpacked)
            elif kind == "zstd":
                yield cast(BinaryIO, io.BufferedReader(_Zstd(path, raw), _BLOCK))
            else:
                yield raw
    except EOFError as error:
        raise _cut(path, "gzip") from error
    except (gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise InputError(
            f"The {kind} data of the file is damaged ({error}).",
            where=str(path),
            expected=f"a whole {kind} file",
            hint="copy or download it again",
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _check_start(path: Path, raw: BinaryIO, kind: str) -> None:
    """InputError when the first bytes are those of something else than the name says."""
    head = raw.read(4)
    raw.seek(0)
    found, hint = next(
        ((name, hint) for magic, name, hint in _MAGIC if head.startswith(magic)), ("", "")
    )
    right = found == f"{kind} data" if kind else not found
    # An empty file is told as such by its reader, whatever its name.
    if right or not head:
        return
    if kind:
        found = found or f"other bytes ({head.hex(' ')})"
        hint = f"remove the {path.suffix} from its name if it is not compressed"
    raise InputError(
        f"The file holds {found}, which its name does not say.",
        where=str(path),
        expected=f"{kind} data" if kind else "UTF-8 text",
        hint=hint,
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """What the system says of a path that it does not let us read."""
    hint = "check its permissions" if isinstance(error, PermissionError) else None
    reason = error.strerror or type(error).__name__
    return InputError(
        f"The file can't be read: {reason}.",
        where=str(path),
        expected="a file that this user may read",
        hint=hint,
    )


def _cut(path: Path, kind: str) -> InputError:
    return InputError(
        f"The {kind} data ends in the middle: the file is cut off.",
        where=str(path),
        expected=f"a whole {kind} file",
        hint="copy or download it again",
    )


class _Zstd(io.RawIOBase):
    """Frames of a zstd file as one stream; unlike the library's reader it sees a cut end."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self._path = path
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._left = b""
        self._ready = b""
        self._inside = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer))
        while not self._ready:
            if not self._fill():
                return 0
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _fill(self) -> bool:
        """Decompress one more block; False at the end of the file."""
        data = self._left or self._raw.read(_BLOCK)
        self._left = b""
        if not data:
            if self._inside:
                raise _cut(self._path, "zstd")
            return False
        self._ready = self._frame.decompress(data)
        self._inside = not self._frame.eof
        if self._frame.eof:
            self._left = self._frame.unused_data
            self._frame = zstandard.ZstdDecompressor().decompressobj()
        return True


@contextmanager
def write_bytes(path: Path, name: Path) -> Iterator[BinaryIO]:
    """Bytes written to `path`, compressed as the suffix of `name` says.

    The same content gives the same bytes: the gzip header holds no time and no name. Raises
    StageError when the disk refuses.
    """
    kind = compression_of(name)
    try:
        with path.open("wb") as raw:
            if kind == "gzip":
                with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                    yield cast(BinaryIO, packed)
            elif kind == "zstd":
                # Without the checksum, changed bytes can pass as other text.
                packer = zstandard.ZstdCompressor(level=6, write_checksum=True)
                with packer.stream_writer(raw, closefd=False) as packed:
                    yield cast(BinaryIO, packed)
            else:
                yield raw
    except OSError as error:
        raise StageError(
            f"The file can't be written: {error.strerror or type(error).__name__}.",
            where=str(name),
            hint="check the free space (df -h) and the permissions",
        ) from error

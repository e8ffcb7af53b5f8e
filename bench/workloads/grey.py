"""Grey pictures as sequences of reals, row by row."""

import math
import struct
import zlib

import numpy as np
import numpy.typing as npt

from bench.errors import UsageError

Reals = npt.NDArray[np.float32]

SHADES = " .:-=+*#%@"


def side_of(name: str, length: int, sides: tuple[int, ...]) -> int:
    """The side of the square picture of that many pixels. Raises UsageError, naming the lengths there are."""
    side = math.isqrt(length)
    if side * side != length or side not in sides:
        known = ", ".join(str(known**2) for known in sides)
        raise UsageError(f"{name} gives square pictures, of lengths {known}, not {length}")
    return side


def as_text(pixels: Reals) -> str:
    """A picture `(length,)` in characters, two per pixel; at most 64 pixels wide."""
    side = math.isqrt(pixels.size)
    picture = pixels.reshape(side, side)
    if side > 64:
        step = side // 64
        picture = picture.reshape(64, step, 64, step).max(axis=(1, 3))
    low, high = float(picture.min()), float(picture.max())
    levels = ((picture - low) / max(high - low, 1e-12) * (len(SHADES) - 1)).round().astype(int)
    return "\n".join("".join(SHADES[level] * 2 for level in row).rstrip() for row in levels)


def sheet(pixels: Reals, columns: int = 6, width: int = 128, margin: int = 4) -> npt.NDArray[np.uint8]:
    """Pictures `(pictures, length)` in rows, enlarged to about `width`, each from black to white."""
    count, length = pixels.shape
    side, rows = math.isqrt(length), math.ceil(count / columns)
    low, high = pixels.min(axis=1, keepdims=True), pixels.max(axis=1, keepdims=True)
    levels = ((pixels - low) / np.maximum(high - low, 1e-12) * 255).round().astype(np.uint8)
    factor = max(width // side, 1)
    large = levels.reshape(count, side, side).repeat(factor, axis=1).repeat(factor, axis=2)
    framed = np.pad(large, ((0, rows * columns - count), (margin, 0), (margin, 0)), constant_values=255)
    size = side * factor + margin
    return framed.reshape(rows, columns, size, size).swapaxes(1, 2).reshape(rows * size, columns * size)


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A grey picture `(height, width)` as a PNG file."""
    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )

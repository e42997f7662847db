"""An image file as bytes of pixels: upright, a square, transparent parts white, 16 bits scaled to 8."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UserError

ENDINGS = {
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
}
_MODES = {1: "L", 3: "RGB"}


def read_pixels(data: bytes, path: Path, size: int, channels: int) -> Tensor:
    """(channels, size, size) uint8: the largest centred square of the image, scaled. `path` is for messages.

    Transparent pixels are composited on white. Errors: no image, or pixels of an unknown range.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(_eight_bits(image, path))
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"image-folder: cannot read the image {path} ({error}); repair or remove it") from error
    opaque = _on_white(upright).convert(_MODES[channels])
    square = ImageOps.fit(opaque, (size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(square)).view(size, size, channels).permute(2, 0, 1)


def _eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Pillow's own conversion would clip what is above 255. Error: 32-bit integers and floats, which have no range."""
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if sixteen:
        scaled = Image.fromarray((np.array(image) / 257).round().clip(0, 255).astype(np.uint8))
        scaled.getexif().update(image.getexif())
        return scaled
    if image.mode in ("I", "F"):
        kind = "floats" if image.mode == "F" else "32-bit integers"
        raise UserError(
            f"image-folder: the pixels of {path} are {kind}, whose range is unknown; save it with 8 or 16 bits"
        )
    return image


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)

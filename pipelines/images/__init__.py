"""From encoded bytes to RGB pixels."""

from pipelines.images.bounded import decode_image_apart, decode_image_within
from pipelines.images.decode import IMAGE_SUFFIXES, ImageLimits, decode_image

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageLimits",
    "decode_image",
    "decode_image_apart",
    "decode_image_within",
]

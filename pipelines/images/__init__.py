"""From encoded bytes to RGB pixels."""

from pipelines.images.decode import IMAGE_SUFFIXES, ImageLimits, decode_image

__all__ = ["IMAGE_SUFFIXES", "ImageLimits", "decode_image"]

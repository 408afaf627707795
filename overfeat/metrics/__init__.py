"""How wrong predictions are, image by image, by the rules of the benchmarks."""

from overfeat.metrics.classification import misses_class
from overfeat.metrics.localization import misses_object

__all__ = ["misses_class", "misses_object"]

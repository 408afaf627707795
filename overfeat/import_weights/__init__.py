"""Weight files of other programs, read into a checkpoint of ours."""

from overfeat.import_weights.imagenet_classes import read_imagenet_classes
from overfeat.import_weights.nyu import import_nyu_weights
from overfeat.import_weights.torchvision import import_torchvision_weights
from overfeat.import_weights.weight_file import WeightFileError

__all__ = [
    "WeightFileError",
    "import_nyu_weights",
    "import_torchvision_weights",
    "read_imagenet_classes",
]

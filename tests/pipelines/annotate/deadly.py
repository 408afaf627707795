"""Images that kill the process they are decoded or detected in, known by their size alone.

`install` makes a process vulnerable. Ray's workers call it; the children that they start find
`deadly_site/sitecustomize.py` on their path, which calls it too.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import simplejpeg

from overfeat.predictor import Predictor
from pipelines.annotate import stages
from pipelines.annotate.graph import DetectActor

TO_DECODE = {"height": 66, "width": 61}
TO_DETECT = {"height": 67, "width": 62}
_SITE = str(Path(__file__).parent / "deadly_site")


def install():
    """Let this process and its children die of such images; a second time changes nothing."""
    if _SITE in sys.path:
        return
    sys.path.insert(0, _SITE)
    decode, predict = simplejpeg.decode_jpeg, Predictor.predict

    def decode_or_die(*args, buffer, **kwargs):
        if buffer.shape[:2] == tuple(TO_DECODE.values()):
            os.kill(os.getpid(), signal.SIGSEGV)
        return decode(*args, buffer=buffer, **kwargs)

    def predict_or_die(self, images, *args):
        if any((image.height, image.width) == tuple(TO_DETECT.values()) for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return predict(self, images, *args)

    simplejpeg.decode_jpeg = decode_or_die
    Predictor.predict = predict_or_die


def read_slice(*args, **kwargs):
    """Read like the stage, in a process that is vulnerable."""
    install()
    return stages.read_slice(*args, **kwargs)


class VulnerableActor(DetectActor):
    """Detects like a detect actor, in a process that is vulnerable."""

    def __init__(self, *args, **kwargs):
        install()
        super().__init__(*args, **kwargs)

"""Draw the first layer's filters, like figure 2 of the paper.

python examples/filters.py [CHECKPOINT [PICTURE]]
"""

from __future__ import annotations

import sys

from PIL import Image

import overfeat
from overfeat.draw import draw_filters


def main(checkpoint: str = "demo", picture: str = "filters.png") -> None:
    """Save the picture."""
    (member,) = overfeat.load(checkpoint).members
    weights = next(member.network.parameters()).detach().float().cpu().numpy()
    Image.fromarray(draw_filters(weights)).save(picture)
    print(f"{len(weights)} filters of {weights.shape[2]}x{weights.shape[3]} pixels: {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Pictures for people: boxes on their image, where a class is seen, what the first layer looks for.

For reports, notebooks, a first glance at a result. The only package of `overfeat` that uses Pillow.
"""

from overfeat.draw.boxes import draw_boxes
from overfeat.draw.colors import PALETTE, color_of, text_color_on
from overfeat.draw.filters import draw_filters
from overfeat.draw.heat_maps import draw_heat_map, draw_heat_maps

__all__ = [
    "PALETTE",
    "color_of",
    "draw_boxes",
    "draw_filters",
    "draw_heat_map",
    "draw_heat_maps",
    "text_color_on",
]

"""Seeing and steering what a generator has learned: walks, classes side by side, directions, projections."""

from ganzoo.exploring.classes import class_grid
from ganzoo.exploring.factorisation import Directions, direction_strip, directions
from ganzoo.exploring.neighbours import neighbour_sheet
from ganzoo.exploring.projection import Projection, project
from ganzoo.exploring.saving import save_animation, save_sheet
from ganzoo.exploring.walks import interpolate

__all__ = [
    "Directions",
    "Projection",
    "class_grid",
    "direction_strip",
    "directions",
    "interpolate",
    "neighbour_sheet",
    "project",
    "save_animation",
    "save_sheet",
]

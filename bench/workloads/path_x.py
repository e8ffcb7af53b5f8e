"""Path-X: Pathfinder at 128 × 128, a sequence of 16,384 grey values.

Published: contours of 14 dashes, thickness 1½, about 7 distractors, contrast 0.9, antialias 2. The dashes'
length is not stated; here they take the share of the picture that lets the contours cross much of it.
"""

from bench.workloads.contours import Geometry
from bench.workloads.pathfinder import Pathfinder

GEOMETRY = Geometry(
    side=128,
    dashes=14,
    dash=6.0,
    thickness=1.5,
    distractors=7,
    distractor_dashes=4,
    contrast=0.9,
    gap=3.0,
    clearance=8.0,
    disc=3.0,
)

WORKLOAD = Pathfinder(
    "path-x", "do two discs mark the ends of one contour, 128 × 128 (2 classes)", "path_x", GEOMETRY
)

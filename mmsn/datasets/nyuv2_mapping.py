"""The 894 object names of NYUv2 grouped into 40 classes, as in `classMapping40.mat`.

Source: Gupta, Arbelaez and Malik, "Perceptual Organization and Recognition of Indoor Scenes from
RGB-D Images", CVPR 2013. 37 names are classes of their own; all others belong to
`otherstructure`, `otherfurniture` or, most often, `otherprop`. The tables below contain 1-based
positions in the list `names` of `nyu_depth_v2_labeled.mat`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUM_NAMES = 894
OTHER_STRUCTURE, OTHER_FURNITURE, OTHER_PROP = 38, 39, 40

# OWN_CLASS[c - 1] is the name of class c, for c = 1 (wall) to 37 (bag).
# fmt: off
OWN_CLASS = (
    21, 11, 3, 157, 5, 83, 19, 28, 59, 88, 64, 7, 80, 36, 42, 89, 169, 119, 122, 143, 141, 4,
    85, 17, 172, 15, 135, 123, 26, 45, 331, 158, 124, 24, 144, 136, 55,
)
STRUCTURE = (
    8, 25, 33, 38, 51, 53, 57, 58, 62, 65, 79, 94, 104, 112, 134, 153, 215, 216, 223, 225, 238,
    241, 242, 256, 295, 301, 339, 342, 354, 363, 372, 380, 392, 408, 412, 453, 456, 463, 477,
    497, 541, 550, 553, 567, 573, 582, 591, 609, 612, 615, 642, 645, 657, 658, 659, 663, 667,
    668, 686, 700, 702, 777, 778, 782, 850, 861, 868, 874,
)
FURNITURE = (
    12, 43, 48, 50, 87, 106, 111, 161, 163, 174, 183, 204, 214, 219, 221, 224, 236, 262, 278,
    291, 298, 313, 343, 344, 356, 359, 373, 393, 401, 414, 418, 419, 430, 443, 444, 447, 448,
    457, 458, 460, 462, 475, 479, 485, 486, 493, 494, 498, 499, 509, 510, 515, 521, 524, 540,
    549, 551, 554, 556, 558, 576, 580, 608, 625, 703, 734, 770, 772, 797, 800, 803, 804, 813,
    814, 815, 820, 829, 835, 858, 863, 882, 892,
)
# fmt: on


def mapping40() -> NDArray[np.uint8]:
    """Lookup table `(895,)` from a label of the official file to 0 (unlabeled) or 1..40."""
    table = np.full(NUM_NAMES + 1, OTHER_PROP, np.uint8)  # most names, so they are not listed
    table[0] = 0
    table[list(OWN_CLASS)] = np.arange(1, len(OWN_CLASS) + 1)
    table[list(STRUCTURE)] = OTHER_STRUCTURE
    table[list(FURNITURE)] = OTHER_FURNITURE
    return table

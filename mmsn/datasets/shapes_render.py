"""Draws one scene of the built-in shapes dataset: an RGB image and its label map, with NumPy only.

The classes are designed so that color alone is a weak cue:

- three grounds differ in texture (grain, waves, bricks);
- `disc`, `ring` and `star` share their textures and differ only in the outline of the whole object;
- `crate` and `quilt` are both checkered squares and differ in the frequency of the pattern;
- `melon` and `bee` are both striped ellipses, with stripes along or across the long axis;
- `boat` and `tent` are the same triangle; a boat is on water, a tent is not.

Left out on purpose: files, folders and datasets, which are in `shapes.py`.

Lengths below are in pixels of a scene of 96 x 96; other sizes scale them. The number and the order
of the draws from `rng` define the dataset: a change of either changes every image.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsn.errors import UserError

Array = NDArray[Any]  # floating point

CLASSES = (
    "meadow",
    "water",
    "brick",
    "disc",
    "ring",
    "star",
    "crate",
    "quilt",
    "melon",
    "bee",
    "boat",
    "tent",
)
NUM_GROUNDS = 3
REFERENCE_SIZE = 96
_WATER = CLASSES.index("water")
_TRIANGLE = -1  # becomes boat or tent, depending on the ground below it
_DRAWABLE = (*range(NUM_GROUNDS, CLASSES.index("boat")), _TRIANGLE, _TRIANGLE)
# The typical hue of each class, which is an additional cue if the difficulty is below 1.
_HUES = (0.30, 0.58, 0.04, 0.13, 0.80, 0.16, 0.08, 0.92, 0.36, 0.14, 0.0, 0.0)


@dataclass(frozen=True)
class Scene:
    """Parameters of the generator; the defaults are the built-in dataset.

    `difficulty` is the probability that a ground or an object gets a random hue instead of the
    typical hue of its class (0: color is a strong cue, 1: color is not a cue).
    `objects` and `radius` are inclusive ranges; `noise` is a standard deviation, where white is 1.
    """

    difficulty: float = 0.5
    objects: tuple[int, int] = (3, 4)
    radius: tuple[float, float] = (15.0, 25.0)
    noise: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.difficulty <= 1:
            raise UserError(f"difficulty is {self.difficulty}; give a value from 0 to 1")
        if not 1 <= self.objects[0] <= self.objects[1]:
            raise UserError(f"objects is {self.objects}; give 1 <= fewest <= most")
        if not 4 <= self.radius[0] <= self.radius[1]:
            raise UserError(f"radius is {self.radius}; give 4 <= smallest <= largest, in pixels")


def render(
    rng: np.random.Generator, size: int, scene: Scene | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene.

    Returns the image `(size, size, 3)`, RGB, and the labels `(size, size)`, indices into CLASSES.
    """
    if size < 32:
        raise UserError(f"size is {size}; give at least 32 pixels")
    scene = scene or Scene()
    scale = REFERENCE_SIZE / size
    y, x = np.meshgrid(*[(np.arange(size, dtype=np.float32) + 0.5) * scale] * 2, indexing="ij")
    image, labels = _grounds(rng, x, y, scene)
    under = labels.copy()  # of grounds alone: an object may hide the water below a boat
    for _ in range(int(rng.integers(scene.objects[0], scene.objects[1] + 1))):
        _add_object(rng, x, y, scene, image, labels, under)
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.15 * ((x - 48) * np.cos(angle) + (y - 48) * np.sin(angle)) / 48
    image = image * light[..., None]
    image += rng.normal(0, scene.noise, image.shape)
    return (image.clip(0, 1) * 255 + 0.5).astype(np.uint8), labels


def _color(rng: np.random.Generator, class_id: int, scene: Scene) -> Array:
    typical = _HUES[class_id] + rng.normal(0, 0.03)
    hue = rng.uniform() if rng.uniform() < scene.difficulty else typical
    saturation, value = rng.uniform(0.35, 0.8), rng.uniform(0.5, 0.95)
    return np.asarray(colorsys.hsv_to_rgb(hue % 1, saturation, value), dtype=np.float32)


def _grounds(
    rng: np.random.Generator, x: Array, y: Array, scene: Scene
) -> tuple[Array, NDArray[np.uint8]]:
    """Two or three grounds, separated by wavy lines: image (S, S, 3) and labels (S, S)."""
    order = rng.permutation(NUM_GROUNDS)
    labels = np.full(x.shape, order[0], np.uint8)
    for ground in order[1 : rng.integers(2, NUM_GROUNDS + 1)]:
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        across = (x - 48) * np.cos(angle) + (y - 48) * np.sin(angle)
        along = (y - 48) * np.cos(angle) - (x - 48) * np.sin(angle)
        wave = rng.uniform(2, 6) * np.sin(along / rng.uniform(8, 16) + phase)
        labels[across + wave > rng.uniform(-5, 25)] = ground
    image = np.zeros((*x.shape, 3), np.float32)
    for ground in range(NUM_GROUNDS):
        tone = (_grain, _waves, _bricks)[ground](rng, x, y)
        painted = _color(rng, ground, scene) * (1 + tone[..., None])
        image = np.where((labels == ground)[..., None], painted, image)
    return image, labels


def _grain(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Meadow: blades of grass, made of noise averaged over three pixels vertically."""
    noise = rng.normal(0, 0.4, x.shape).astype(np.float32)
    return (noise + np.roll(noise, 1, 0) + np.roll(noise, 2, 0)) / 3


def _waves(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Water: nearly horizontal waves."""
    length, phase, bend = rng.uniform(5, 9), rng.uniform(0, 6.3), rng.uniform(0, 6.3)
    swell = y + rng.uniform(-0.25, 0.25) * x + 1.5 * np.sin(x / rng.uniform(4, 8) + bend)
    return 0.22 * np.sin(2 * np.pi * swell / length + phase)


def _bricks(rng: np.random.Generator, x: Array, y: Array) -> Array:
    """Bricks in running bond with bright mortar; every brick has its own tone."""
    height = rng.uniform(6, 9)
    row, v = np.divmod(y + rng.uniform(0, height), height)
    column, u = np.divmod(x + (row % 2) * height + rng.uniform(0, height), 2 * height)
    tones = rng.normal(0, 0.1, (64, 64))[row.astype(int) % 64, column.astype(int) % 64]
    return np.where((u < 1.3) | (v < 1.3), 0.35, tones).astype(np.float32)


def _add_object(
    rng: np.random.Generator,
    x: Array,
    y: Array,
    scene: Scene,
    image: Array,
    labels: NDArray[np.uint8],
    under: NDArray[np.uint8],
) -> None:
    """Paint one object over `image` and `labels`, in place; `under` holds the bare grounds."""
    class_id = int(rng.choice(_DRAWABLE))
    radius = rng.uniform(*scene.radius)
    center = rng.uniform(12, REFERENCE_SIZE - 12, 2)
    if class_id == _TRIANGLE:
        row, column = (center * (labels.shape[0] / REFERENCE_SIZE)).astype(int)
        class_id = CLASSES.index("boat" if under[row, column] == _WATER else "tent")
    upright = CLASSES[class_id] in ("boat", "tent")
    turn = rng.normal(0, 0.15) if upright else rng.uniform(0, 2 * np.pi)
    dy, dx = y - center[0], x - center[1]
    u = dx * np.cos(turn) + dy * np.sin(turn)
    v = dy * np.cos(turn) - dx * np.sin(turn)
    distance = _outline(rng, CLASSES[class_id], u, v, radius)
    cover = (0.5 - distance).clip(0, 1)[..., None]  # antialiased over one pixel
    shadow = (0.5 - np.roll(distance, (2, 2), (0, 1)) / 3).clip(0, 0.35)[..., None]
    image *= 1 - shadow

    first = _color(rng, class_id, scene)
    second = first * rng.uniform(0.3, 0.5) if rng.uniform() < 0.5 else 1 - (1 - first) * 0.35
    mix = _pattern(rng, CLASSES[class_id], u, v)[..., None]
    painted = first * (1 - mix) + second * mix
    painted *= (1.1 - 0.3 * (distance > -1.5) + (u - v) / (6 * radius))[..., None]
    image *= 1 - cover
    image += painted * cover
    labels[distance < 0] = class_id


def _outline(rng: np.random.Generator, name: str, u: Array, v: Array, radius: float) -> Array:
    """Approximate signed distance (S, S) to the outline in pixels, negative inside."""
    if name == "disc":
        return np.hypot(u, v) - 0.9 * radius
    if name == "ring":
        width = radius * rng.uniform(0.23, 0.28)
        return np.abs(np.hypot(u, v) - radius + width) - width
    if name == "star":
        outer, inner, half = 1.3 * radius, 0.62 * radius, np.pi / 5
        angle = np.abs((np.arctan2(v, u) + half) % (2 * half) - half)
        # the edge from the tip (outer, 0) to the notch (notch_u, notch_v), in polar coordinates
        notch_u, notch_v = inner * np.cos(half), inner * np.sin(half)
        edge = outer * notch_v / (notch_v * np.cos(angle) + (outer - notch_u) * np.sin(angle))
        return 0.7 * (np.hypot(u, v) - edge)
    if name in ("crate", "quilt"):
        return np.maximum(np.abs(u), np.abs(v)) - 0.8 * radius
    if name in ("melon", "bee"):
        short = radius * rng.uniform(0.55, 0.65)
        return (np.hypot(u / (1.1 * radius), v / short) - 1) * short
    # boat, tent: an isosceles triangle that stands on its base
    side = (np.abs(u) * 2 - v - 1.2 * radius) / np.sqrt(5)
    return np.maximum(side, v - 0.8 * radius)


def _pattern(rng: np.random.Generator, name: str, u: Array, v: Array) -> Array:
    """Share (S, S) of the second color, 0 to 1; the pattern is fixed for some classes only."""
    phase = rng.uniform(0, 2 * np.pi, 2)
    if name in ("crate", "quilt"):
        cell = rng.uniform(7, 9) if name == "crate" else rng.uniform(3.2, 4)
        mix = np.sin(np.pi * u / cell + phase[0]) * np.sin(np.pi * v / cell + phase[1])
    elif name in ("melon", "bee"):
        axis = v if name == "melon" else u
        mix = np.sin(np.pi * axis / rng.uniform(3, 4) + phase[0])
    else:
        kind, angle, cell = rng.integers(4), rng.uniform(0, np.pi), rng.uniform(4, 8)
        p, q = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
        waves = np.sin(np.pi * p / cell + phase[0]), np.sin(np.pi * q / cell + phase[1])
        plain, stripes, dots = np.full_like(u, -1), waves[0], waves[0] + waves[1] - 1
        mix = (plain, plain, stripes, dots)[kind]
    return (0.5 + 2 * mix).clip(0, 1)

"""A stitch and the steps of running it, as plain data.

Which stitches there are, and which steps a stitch takes, is in ``mmsn.stitching.space``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["anchor", "sl", "ls", "lsl", "sls", "elastic"]


class Segment(NamedTuple):
    """Blocks ``start`` to ``stop`` (half-open) of one anchor."""

    anchor: int
    start: int
    stop: int


class LayerKey(NamedTuple):
    """Name of one stitching layer: it maps ``source`` to ``target`` after unit ``unit``.

    In a one-way space, joins of the same window share the layer, also those one block later.
    """

    source: int
    target: int
    unit: int


class Run(NamedTuple):
    """Step of a route: run blocks ``start`` to ``stop`` of an anchor."""

    anchor: int
    start: int
    stop: int


class Join(NamedTuple):
    """Step of a route: carry the tokens to another anchor through a stitching layer."""

    key: LayerKey


class Tap(NamedTuple):
    """Step of a route: return the present tokens as a feature level.

    ``path`` names the stitching layers that project them to the last anchor's width; it is empty
    when they have it already.
    """

    level: int
    path: tuple[LayerKey, ...]


Step = Run | Join | Tap


class Parts(NamedTuple):
    """What stitches are made of: anchors that embed the image, (anchor, block) pairs, layers."""

    embeddings: frozenset[int]
    blocks: frozenset[tuple[int, int]]
    layers: frozenset[LayerKey]


@dataclass(frozen=True)
class Stitch:
    """One sub-network: segments joined by stitching layers.

    ``kind`` is ``anchor``, the order of sizes visited, for example ``lsl`` for large, small,
    large, or ``elastic`` for the beginning of one anchor. ``id`` is the one that the published
    code gives the stitch: SN-Net's in a one-way space, SN-Netv2's in a two-way space.
    """

    id: int
    kind: Kind
    segments: tuple[Segment, ...]

    def __str__(self) -> str:
        return " > ".join(f"{a}[{start}:{stop}]" for a, start, stop in self.segments)

"""Running many stitches on the same images, each shared beginning once.

A segmentor may call its backbone several times for one image, once per crop of a sliding window.
Every stitch does so in the same order, so calls are matched by their number, and each is checked
to have the same input as before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmsn.stitching.space import LayerKey, Step, Stitch
from mmsn.stitching.trie import Trie, common_length

# A (B, C, h, w) map, or the pair of it and the (B, C) class token.
Level = Tensor | tuple[Tensor, Tensor]


@dataclass
class PassState:
    """What a forward pass holds between two steps of a route."""

    tokens: Tensor
    grid: tuple[int, int]
    levels: list[Level | None]
    # A join and a level may need the same layer on the same tokens: it runs once.
    carried: dict[LayerKey, Tensor] = field(default_factory=dict)

    def branch(self) -> PassState:
        """A copy to continue from; the tensors are shared."""
        return PassState(self.tokens, self.grid, list(self.levels), dict(self.carried))


class SharedPasses:
    """The passes of all stitches of a trie over the same sequence of inputs."""

    def __init__(
        self,
        trie: Trie,
        start: Callable[[Tensor, int], PassState],
        advance: Callable[[PassState, Step], None],
    ) -> None:
        self.trie, self._start, self._advance = trie, start, advance
        self._calls: dict[int, int] = {}  # by stitch
        # One stack of (length, state) per call, and the input and route that it belongs to.
        self._stacks: list[list[tuple[int, PassState]]] = []
        self._inputs: list[Tensor] = []
        self._before: list[int] = []

    def begin(self, stitch: Stitch) -> None:
        """A stitch starts over at the first input."""
        self._calls[stitch.id] = 0

    def forward(self, image: Tensor, stitch: int) -> list[Level | None]:
        """The feature levels of a stitch for its next input; the caller may change them in place.

        Raises:
            RuntimeError: a stitch that is not of the trie, or an input that is not the one that
                the stitches before had at this place.
        """
        trie = self.trie
        if stitch not in trie.routes:
            raise RuntimeError(
                f"stitch {stitch} is not among the {len(trie.order)} that share work here: name it "
                "in share_prefixes, too"
            )
        call = self._calls.get(stitch, 0)
        self._calls[stitch] = call + 1
        if call == len(self._stacks):
            self._stacks.append([])
            self._inputs.append(image.clone())
            self._before.append(stitch)
        elif not _same(image, self._inputs[call]):
            raise RuntimeError(
                f"input {call} of stitch {stitch} is not that of stitch {self._before[call]}: "
                "stitches share work only on the same images; open share_prefixes for each batch"
            )
        stack, before = self._stacks[call], self._before[call]
        route = trie.routes[stitch]
        shared = 0
        if stack and trie.first[before] == trie.first[stitch]:
            shared = common_length(trie.routes[before], route)
        while stack and (stack[-1][0] > shared or trie.first[before] != trie.first[stitch]):
            stack.pop()
        if stack:
            done, state = stack[-1][0], stack[-1][1].branch()
        else:
            done, state = 0, self._start(image, trie.first[stitch])
        self._before[call] = stitch
        kept = {length for length, _ in stack}
        for length in range(done, len(route) + 1):
            if length in trie.branches[stitch] and length not in kept:
                stack.append((length, state.branch()))
            if length < len(route):
                self._advance(state, route[length])
        return [_copy(level) for level in state.levels]


def _same(image: Tensor, other: Tensor) -> bool:
    """Are these equal, where broken pixels (NaN) equal each other?"""
    return image.shape == other.shape and torch.allclose(image, other, 0, 0, equal_nan=True)


def _copy(level: Level | None) -> Level | None:
    if isinstance(level, tuple):
        return level[0].clone(), level[1].clone()
    return None if level is None else level.clone()

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
        self._call = 0
        self._stitch: Stitch | None = None
        # One stack of (length, state) per call, and the input and route that it belongs to.
        self._stacks: list[list[tuple[int, PassState]]] = []
        self._inputs: list[Tensor] = []
        self._before: list[int] = []

    def begin(self, stitch: Stitch) -> None:
        """A stitch starts over at the first input."""
        self._call, self._stitch = 0, stitch

    def forward(self, image: Tensor) -> list[Level | None]:
        """The feature levels of the present stitch for the next input.

        Raises:
            RuntimeError: the input is not the one that the stitches before had at this place.
        """
        assert self._stitch is not None
        trie, stitch = self.trie, self._stitch.id
        call, self._call = self._call, self._call + 1
        if call == len(self._stacks):
            self._stacks.append([])
            self._inputs.append(image)
            self._before.append(stitch)
        elif not torch.equal(image, self._inputs[call]):
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
        return state.levels

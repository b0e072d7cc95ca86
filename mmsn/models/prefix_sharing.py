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

from mmsn.stitching.stitch import LayerKey, Step, Stitch
from mmsn.stitching.trie import Trie, common_length

# A (B, C, h, w) map, or the pair of it and the (B, C) class token.
Level = Tensor | tuple[Tensor, Tensor]


@dataclass
class PassState:
    """What a forward pass holds between two steps of a route."""

    tokens: Tensor
    grid: tuple[int, int]
    levels: list[Level | None]
    # Outputs of stitching layers since the last block. A join and a level may need the same layer
    # on the same tokens: it runs once. After the next block it would have other tokens.
    carried: dict[LayerKey, Tensor] = field(default_factory=dict)

    def branch(self) -> PassState:
        """A copy to continue from. It shares the tensors: blocks make new ones, none is changed."""
        return PassState(self.tokens, self.grid, list(self.levels), dict(self.carried))


class SharedPasses:
    """The passes of all stitches of a trie over the same sequence of inputs.

    For each input there is a stack of states on the path from the root of the trie to where the
    last stitch ended: one per length at which a later stitch branches off, longest last. The trie's
    order shares most; in any other order results are the same, with more work.
    """

    def __init__(
        self,
        trie: Trie,
        start: Callable[[Tensor, int], PassState],
        advance: Callable[[PassState, Step], None],
    ) -> None:
        self.trie, self._start, self._advance = trie, start, advance
        self._inputs: list[_Input] = []

    def begin(self, stitch: Stitch) -> SharedPass:
        """A pass of one stitch, from the first input on.

        Raises:
            RuntimeError: a stitch that is not of the trie.
        """
        if stitch.id not in self.trie.routes:
            raise RuntimeError(
                f"stitch {stitch.id} is not among the {len(self.trie.order)} that share work "
                "here: name it in share_prefixes, too"
            )
        return SharedPass(self, stitch.id)

    def forward(self, image: Tensor, stitch: int, call: int) -> list[Level | None]:
        """The feature levels of a stitch for an input; the caller may change them in place.

        Raises:
            RuntimeError: an input that is not the one that the stitches before had at this place.
        """
        trie = self.trie
        # Calls come in order, so an unknown one is the next: the first stitch defines the inputs.
        if call == len(self._inputs):
            self._inputs.append(_Input(image, stitch))
        one = self._inputs[call]
        if not one.equals(image):
            raise RuntimeError(
                f"input {call} of stitch {stitch} is not that of stitch {one.before}: "
                "stitches share work only on the same images; call share_prefixes for each batch"
            )
        route, first = trie.routes[stitch], trie.first[stitch]
        # Invariant: every state of the stack lies on the route of the stitch before. Those that
        # are longer than what both routes share are of no use to this stitch, nor, in the trie's
        # order, to a later one. Routes that begin with another anchor share not even the embedding:
        # -1 drops the states of length 0, too.
        shared = -1
        if trie.first[one.before] == first:
            shared = common_length(trie.routes[one.before], route)
        while one.stack and one.stack[-1][0] > shared:
            one.stack.pop()
        # The remaining states lie on this stitch's route, too; continue from the longest.
        if one.stack:
            done, kept = one.stack[-1]
            state = kept.branch()
        else:
            done, state = 0, self._start(image, first)
        one.before = stitch
        lengths = {length for length, _ in one.stack}
        # One more round than steps: a state after the last step may be kept, too. A state is kept
        # before its next step, because ``advance`` changes it.
        for length in range(done, len(route) + 1):
            if length in trie.branches[stitch] and length not in lengths:
                one.stack.append((length, state.branch()))
            if length < len(route):
                self._advance(state, route[length])
        # The states that are kept hold the same tensors, and heads may write into theirs.
        return [_copy(level) for level in state.levels]


class SharedPass:
    """The pass of one stitch over the inputs; it counts the calls of the backbone."""

    def __init__(self, passes: SharedPasses, stitch: int) -> None:
        self._passes, self._stitch, self._calls = passes, stitch, 0

    def forward(self, image: Tensor) -> list[Level | None]:
        """The feature levels of the next input."""
        self._calls += 1
        return self._passes.forward(image, self._stitch, self._calls - 1)


class _Input:
    """An input, the last stitch that had it, and the states that were kept of its passes."""

    def __init__(self, image: Tensor, before: int) -> None:
        self._content = image.clone()  # the caller may write into the image later
        self._image, self._version = image, _version(image)  # a quick way to see that it is equal
        self.before = before
        self.stack: list[tuple[int, PassState]] = []  # (steps done, state)

    def equals(self, image: Tensor) -> bool:
        """Whether these are the same (B, 3, H, W) images; NaN pixels equal each other."""
        content = self._content
        if (image.shape, image.dtype) != (content.shape, content.dtype):
            return False
        # The same memory, not written to since: no comparison is needed. The reference to the first
        # image keeps its memory from being used for another one.
        same = image.data_ptr() == self._image.data_ptr() and image.stride() == self._image.stride()
        if same and self._version is not None and self._version == _version(image):
            return True
        return torch.allclose(image, content, 0, 0, equal_nan=True)


def _version(image: Tensor) -> int | None:
    """How often the memory was written to; inference tensors do not count."""
    return None if image.is_inference() else image._version


def _copy(level: Level | None) -> Level | None:
    if isinstance(level, tuple):
        return level[0].clone(), level[1].clone()
    return None if level is None else level.clone()

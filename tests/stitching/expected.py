"""What the trie and the draws give, computed independently of the code that is tested."""

from collections.abc import Sequence

from mmsn.stitching.space import Step
from mmsn.stitching.trie import Trie, common_length


def executed(trie: Trie) -> list[Step]:
    """Every step that is run in the trie's order, each shared one once."""
    steps: list[Step] = []
    before: tuple[Step, ...] = ()
    anchor = -1
    for i in trie.order:
        start = common_length(before, trie.routes[i]) if trie.first[i] == anchor else 0
        steps += trie.routes[i][start:]
        before, anchor = trie.routes[i], trie.first[i]
    return steps


def probabilities(groups: Sequence[Sequence[int]]) -> dict[int, float]:
    """The chance of each stitch in ``draw``: a group uniformly, then a member uniformly."""
    return {i: 1 / len(groups) / len(group) for group in groups for i in group}

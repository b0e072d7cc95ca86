"""What holds for every extraction: random depths, ranks, levels and choices of stitches.

Each example builds networks, so there are few by default; ``MMSN_EXAMPLES`` asks for more.
"""

import os

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmsn.deploy import extract
from mmsn.models.opening import build, load_weights
from tests.tiny import tiny_backbone, tiny_head, tiny_segmentor

EXAMPLES = int(os.environ.get("MMSN_EXAMPLES", "6"))


@st.composite
def supernets(draw):
    """Depths of which one divides the other, a rank, levels, levels to read, and stitches."""
    small, factor = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    depths = (small, small * factor) if draw(st.booleans()) else (small * factor, small)
    blocks = st.integers(0, depths[1] - 1)
    out_indices = sorted(draw(st.sets(blocks, min_size=1, max_size=3)))
    read = draw(st.integers(0, len(out_indices) - 1))
    options = dict(rank=draw(st.integers(0, 3)))
    if draw(st.booleans()):
        options["eval_levels"] = (read,)
    return depths, tuple(out_indices), read, options, draw(st.randoms(use_true_random=False))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(supernets())
def test_an_extraction_gives_what_the_supernet_gives(chosen):
    depths, out_indices, read, options, draw = chosen
    backbone = tiny_backbone(depths, out_indices, **options)
    for anchor, width in zip(backbone["anchors"], (8, 16), strict=True):
        anchor["embed_dim"] = width
    config = Config(
        dict(
            custom_imports=dict(imports=["mmsn"]),
            default_scope="mmseg",
            model=tiny_segmentor(backbone, tiny_head(5, in_index=read, in_channels=16)),
        )
    )
    init_default_scope("mmseg")
    torch.manual_seed(draw.randint(0, 2**31))
    supernet = build(config)
    for name, weight in supernet.named_parameters():  # low-rank updates start at zero
        if "lora" in name or "conv_seg" in name:
            torch.nn.init.normal_(weight)
    ids = supernet.backbone.space.ids
    ids = sorted(draw.sample(ids, draw.randint(1, min(3, len(ids)))))
    small, weights = extract(config, supernet.state_dict(), ids)
    network = build(small)
    load_weights(network, weights)
    assert list(network.backbone.space.ids) == ids
    assert sum(w.numel() for w in weights.values()) <= sum(
        w.numel() for w in supernet.state_dict().values()
    )
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for stitch in ids:
            with supernet.backbone.use_stitch(stitch):
                expected = supernet(image)
            with network.backbone.use_stitch(stitch):
                found = network(image)
            # Merging an update rounds once more.
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())

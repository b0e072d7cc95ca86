"""What an anchor costs, against timm's own parameters and an independent count of MACs."""

import pytest
import timm
import torch
from fvcore.nn import FlopCountAnalysis
from timm.layers import set_fused_attn

from mmsn.models import Anchor
from mmsn.models.timm_vits import CLASSIFICATION_PARTS

WHOLE = [
    *(f"vit_{size}_patch16_dinov3" for size in ("small", "small_plus", "base", "large")),
    *("vit_huge_plus_patch16_dinov3", "vit_huge_plus_patch16_dinov3_qkvb"),
    *("eva02_tiny_patch14_224", "eva02_base_patch14_224", "eva02_large_patch14_224"),
    *("vit_pe_core_base_patch16_224", "vit_pe_core_large_patch14_336"),
    *("vit_pe_spatial_base_patch16_512", "vit_small_patch14_reg4_dinov2"),
    *("vit_small_patch16_rope_mixed_ape_224", "vit_large_patch16_sapiens2"),
]


@pytest.mark.parametrize("name", WHOLE)
def test_parameters_of_real_anchors_are_exact(name):
    with torch.device("meta"):
        vit = timm.create_model(name, num_classes=0, img_size=224, dynamic_img_size=True)
        cost = Anchor(name, (224, 224)).cost()
    unused = tuple(f"{part}." for part in CLASSIFICATION_PARTS)
    own = {k: p.numel() for k, p in vit.named_parameters() if not k.startswith(unused)}
    assert cost.params == sum(own.values())
    for index in (0, len(cost.blocks) - 1):
        inside = sum(n for k, n in own.items() if k.startswith(f"blocks.{index}."))
        outside = own.get("rope.freqs", 0) // len(cost.blocks)
        assert cost.blocks[index].params == inside + outside


class Whole(torch.nn.Module):
    def __init__(self, anchor):
        super().__init__()
        self.anchor = anchor

    def forward(self, image):
        tokens, grid = self.anchor.embed(image)
        return self.anchor.run(tokens, 0, self.anchor.depth, grid)


@pytest.fixture
def unfused():
    set_fused_attn(False)  # counters do not see fused attention
    yield
    set_fused_attn(True)


@pytest.mark.usefixtures("unfused")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_small_patch16_dinov3", {}),  # registers, rotation
        ("vit_small_plus_patch16_dinov3", {}),  # SwiGLU
        ("vit_base_patch16_dinov3_qkvb", dict(embed_dim=256, num_heads=4)),
        ("eva02_small_patch14_224", {}),  # packed SwiGLU
        ("eva02_base_patch16_clip_224", dict(embed_dim=256, num_heads=4)),  # norms inside
        ("vit_pe_core_small_patch16_384", {}),  # a norm before the blocks
        ("vit_small_patch16_rope_mixed_224", {}),
        ("vit_large_patch16_sapiens2", dict(embed_dim=256, num_heads=16, depth=24)),
        ("vit_dlittle_patch16_reg1_gap_256", {}),  # differential attention
    ],
)
def test_macs_equal_an_independent_count_to_a_thousandth(name, options):
    anchor = Anchor(name, (64, 64), **(dict(depth=2) | options)).eval()
    cost, size = anchor.cost(), (64, 112)
    tokens = cost.tokens(size)
    macs = cost.embed_macs(size) + sum(block.macs(tokens) for block in cost.blocks)
    counter = FlopCountAnalysis(Whole(anchor), torch.randn(1, 3, *size))
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    assert macs == pytest.approx(counter.total(), rel=1e-3)

"""Anchors of both timm classes against timm itself; what the adapters refuse."""

import pytest
import safetensors.torch
import timm
import torch
from timm.layers import set_fused_attn

from mmsn.errors import UserError
from mmsn.models import Anchor, StitchedViT, timm_vits
from mmsn.stitching import LayerKey
from tests.tiny import tiny_eva

DINOV3 = ["small", "small_plus", "base", "large", "huge_plus"]
NAMES = [
    *("deit3_small_patch16_224", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"),
    *("vit_small_patch16_224", "vit_base_patch16_224.mae"),  # AugReg, MAE
    *("vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_base_patch14_reg4_dinov2"),
    *("vit_base_patch16_clip_224", "vit_base_patch16_siglip_224"),
    "vit_dlittle_patch16_reg1_gap_256",  # differential attention
    *(f"vit_{size}_patch16_dinov3" for size in DINOV3),
    *(f"vit_{size}_patch16_dinov3_qkvb" for size in DINOV3),
    *(f"eva02_{size}_patch14_224" for size in ("tiny", "small")),
    *("eva02_base_patch14_448", "eva02_large_patch14_448", "eva02_base_patch16_clip_224"),
    *("eva_large_patch14_196", "eva02_enormous_patch14_clip_224"),  # no rotation; norms after
    *(f"vit_pe_core_{size}" for size in ("tiny_patch16_384", "small_patch16_384")),
    *(f"vit_pe_core_{size}" for size in ("base_patch16_224", "large_patch14_336")),
    "vit_pe_core_gigantic_patch14_448",
    *(f"vit_pe_spatial_{size}_patch16_512" for size in ("tiny", "small", "base")),
    *("vit_pe_spatial_large_patch14_448", "vit_pe_lang_large_patch14_448"),
    *("vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_ape_224"),  # ROPE-ViT
    "vit_medium_patch16_rope_reg1_gap_256",  # no class token
    *("vit_large_patch16_sapiens2", "vit_small_patch16_lingbot"),
]
NARROW = dict(depth=2, embed_dim=128, num_heads=2)  # real widths only take time
SIZES = [(64, 64), (56, 90), (98, 48)]  # the first is the training size


def options(name):
    if "sapiens2" in name:  # the middle blocks have fewer heads for keys and values
        return dict(embed_dim=128, num_heads=16, depth=24)
    return NARROW


def timm_model(name, **changes):
    given = dict(img_size=64, dynamic_img_size=True, dynamic_img_pad=True) | changes
    return timm.create_model(name, **given).eval()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_an_anchor_alone_equals_timm(name, tmp_path):
    vit = timm_model(name, **options(name))
    for p in vit.parameters():  # layer scales of 1e-5 would hide the blocks
        torch.nn.init.normal_(p, std=0.05)
    file = tmp_path / "vit.safetensors"
    safetensors.torch.save_file(vit.state_dict(), file)
    anchor = Anchor(name, img_size=(64, 64), checkpoint=str(file), **options(name)).eval()
    anchor.init_weights()

    last, prefix = anchor.depth - 1, anchor.prefix_tokens
    worst = 0.0
    for size in SIZES:
        image = torch.randn(2, 3, *size)
        expected = vit.forward_intermediates(
            image,
            indices=[0, last],
            return_prefix_tokens=prefix > 0,
            norm=False,
            output_fmt="NLC",
            intermediates_only=True,
        )
        tokens, grid = anchor.embed(image)
        patch = anchor.token_layout.patch_size
        assert grid == tuple(-(-side // p) for side, p in zip(size, patch, strict=True))
        for theirs, (start, stop) in zip(expected, [(0, 1), (1, last + 1)], strict=True):
            tokens = anchor.run(tokens, start, stop, grid)
            whole = torch.cat([theirs[1], theirs[0]], dim=1) if prefix else theirs
            torch.testing.assert_close(tokens, whole, atol=1e-5, rtol=1e-5)
            worst = max(worst, float((tokens - whole).abs().max()))
    print(f"{name}: {anchor.token_layout}, largest difference {worst:.1e}")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("vit_small_patch16_dinov3", ((16, 16), 1, 4)),
        ("vit_small_patch14_reg4_dinov2", ((14, 14), 1, 4)),
        ("deit_tiny_distilled_patch16_224", ((16, 16), 2, 0)),
        ("vit_pe_core_tiny_patch16_384", ((16, 16), 1, 0)),
        ("vit_medium_patch16_rope_reg1_gap_256", ((16, 16), 0, 1)),
    ],
)
def test_the_layout_of_tokens_has_names(name, layout):
    found = Anchor(name, (64, 64), depth=1).token_layout
    assert (found.patch_size, found.class_tokens, found.register_tokens) == layout
    assert found.prefix_tokens == layout[1] + layout[2]


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("vit_huge_imaginary", {}, "not a timm model"),
        ("resnet18", {}, "does not take these options"),
        ("swin_tiny_patch4_window7_224", {}, "SwinTransformer.* unexpected keyword"),
        ("vit_tiny_r_s16_p8_224", {}, "hybrid"),
        ("vit_small_patch16_18x2_224", dict(depth=1), "parallel blocks"),
        ("vit_tiny_patch16_224", dict(depth=1, patch_drop_rate=0.5), "need every patch"),
        ("vit_tiny_patch16_224", dict(embed_dim=100), "AssertionError: dim should be divisible"),
        ("vit_base_patch16_sapiens2", dict(depth=2), "one entry per block"),
        ("vit_small_patch16_dinov3", dict(depth=1, patch_drop_rate=0.5), "need every patch"),
        (
            "vit_small_patch16_dinov3",
            dict(rope_rescale_coords=2.0),
            "rope_rescale_coords, but .* leave it out",
        ),
    ],
)
def test_what_is_no_plain_vit_is_refused_in_one_line(name, given, reason):
    with pytest.raises(UserError, match=reason) as caught:
        Anchor(name, (64, 64), **given)
    assert "\n" not in str(caught.value)


def test_another_class_is_refused_by_its_name(monkeypatch):
    monkeypatch.setattr("timm.create_model", lambda *args, **options: torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"is a Linear, but .* VisionTransformer or Eva"):
        Anchor("vit_tiny_patch16_224", (64, 64))


def dinov3_small(**changes):
    return Anchor("vit_small_patch16_dinov3", (64, 64), **(NARROW | changes)).eval()


def counted(monkeypatch, anchor):
    """The grids for which timm makes a table from now on."""
    made, rope = [], anchor.vit.rope.rope
    make = rope.get_embed
    monkeypatch.setattr(rope, "get_embed", lambda shape: made.append(shape) or make(shape=shape))
    return made


@torch.no_grad()
def test_a_rotary_table_is_made_once_per_grid_and_never_saved(monkeypatch):
    anchor = dinov3_small()
    names = set(anchor.vit.state_dict())
    made = counted(monkeypatch, anchor)
    for size in ((64, 64), (32, 64), (64, 64)):
        for _ in range(2):
            tokens, grid = anchor.embed(torch.randn(1, 3, *size))
            anchor.run(tokens, 0, 2, grid)
    assert made == [(4, 4), (2, 4)]
    assert set(anchor.state_dict()) == {f"vit.{name}" for name in names}
    assert not any("rope" in name for name in names)


def blocks_of(anchor, image):
    tokens, grid = anchor.embed(image)
    return anchor.run(tokens, 0, anchor.depth, grid)


@torch.no_grad()
@pytest.mark.parametrize("first", ["float32", "bfloat16", "autocast"])
def test_a_table_serves_every_dtype_with_timms_own_values(first):
    """A table made under autocast or in half precision would corrupt what runs later."""
    anchor, vit = dinov3_small(), timm_model("vit_small_patch16_dinov3", **NARROW)
    vit.load_state_dict(anchor.vit.state_dict(), strict=False)
    image = torch.randn(1, 3, 64, 96)
    order = sorted(["float32", "bfloat16", "autocast"], key=lambda name: name != first)
    for name in order:
        dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
        anchor, vit, image = anchor.to(dtype), vit.to(dtype), image.to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "autocast"):
            theirs = vit.forward_intermediates(
                image, indices=[1], norm=False, output_fmt="NLC", intermediates_only=True
            )[0]
            ours = blocks_of(anchor, image)
        assert torch.equal(ours[:, 5:], theirs), name


def test_a_table_made_in_inference_serves_training():
    anchor = dinov3_small()
    image = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        blocks_of(anchor, image)
    blocks_of(anchor, image).sum().backward()
    assert anchor.vit.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_a_table_follows_the_device_and_a_copy_has_its_own():
    anchor = dinov3_small()
    blocks_of(anchor, torch.randn(1, 3, 32, 32))
    anchor.to("meta")
    out = blocks_of(anchor, torch.empty(1, 3, 32, 32, device="meta"))
    assert out.is_meta
    assert out.shape == (1, 9, 128)


def test_mixed_rotation_trains_its_frequencies_and_belongs_to_its_blocks():
    anchor = Anchor("vit_small_patch16_rope_mixed_224", (64, 64), **NARROW)
    blocks_of(anchor, torch.randn(1, 3, 32, 48)).square().sum().backward()
    assert (anchor.vit.rope.freqs.grad.abs().sum((0, 2, 3)) > 0).all()
    anchor.keep([], embedding=True)
    assert "vit.rope.freqs" not in anchor.state_dict()


def from_meta(state):
    """timm's names of DINOv3 to those of Meta's code, biases of queries, keys and values in one."""
    names = {"reg_token": "storage_tokens", "gamma_1": "ls1.gamma", "gamma_2": "ls2.gamma"}
    out = {"mask_token": torch.ones(1, 128), "rope_embed.periods": torch.ones(16)}
    for key, value in state.items():
        if key.endswith("q_bias"):
            zeros = torch.zeros_like(value)
            biases = [value, zeros, state[key.replace("q_bias", "v_bias")]]
            out[key.replace("q_bias", "qkv.bias")] = torch.cat(biases)
        elif not key.endswith("v_bias"):
            for old, new in names.items():
                key = key.replace(old, new)
            out[key] = value
    return out


def test_a_checkpoint_of_metas_code_loads_and_lost_biases_are_refused(
    tmp_path, monkeypatch, capsys
):
    logged = []
    monkeypatch.setattr(
        "mmsn.models.anchor_weights.print_log", lambda text, **_: logged.append(text)
    )
    name = "vit_small_patch16_dinov3_qkvb"
    vit = timm_model(name, **NARROW)
    for p in vit.parameters():
        torch.nn.init.normal_(p)
    path = tmp_path / "dinov3.pth"
    torch.save(from_meta(vit.state_dict()), path)
    anchor = Anchor(name, (64, 64), checkpoint=str(path), **NARROW)
    anchor.init_weights()
    for key, value in anchor.vit.state_dict().items():
        assert torch.equal(value, vit.state_dict()[key]), key
    assert "mask_token" in logged[0]
    assert "qkv.bias" not in logged[0]

    plain = Anchor("vit_small_patch16_dinov3", (64, 64), checkpoint=str(path), **NARROW)
    with pytest.raises(UserError, match=r"blocks.0.attn.qkv.bias and 1 more.*'_qkvb'"):
        plain.init_weights()
    state = from_meta(vit.state_dict())
    zeroed = {k: torch.zeros_like(v) if k.endswith("qkv.bias") else v for k, v in state.items()}
    torch.save(zeroed, path)
    plain.init_weights()
    assert torch.equal(plain.vit.reg_token, vit.reg_token)
    assert capsys.readouterr().out == ""  # timm prints a line per block


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_pe_core_tiny_patch16_384"])
@torch.no_grad()
def test_fixing_the_size_resamples_once_what_every_pass_resamples(name):
    anchor = Anchor(name, (64, 64), depth=1).eval()
    image = torch.randn(1, 3, 48, 90)
    expected = anchor.embed(image)[0]
    timm_vits.fix_input_size(anchor, (48, 90))
    assert anchor.vit.pos_embed.shape[1] == 3 * 6 + 1
    torch.testing.assert_close(anchor.embed(image)[0], expected, atol=1e-5, rtol=1e-5)


def test_both_ways_of_attention_are_one(monkeypatch):
    """Fused and unfused attention rotate alike, so counters may run the unfused one."""
    anchor = dinov3_small()
    set_fused_attn(False)
    try:
        other = dinov3_small()
    finally:
        set_fused_attn(True)
    other.load_state_dict(anchor.state_dict())
    image = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        ours, theirs = blocks_of(anchor, image), blocks_of(other, image)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not other.vit.blocks[0].attn.fused_attn


def test_rotary_coordinates_do_not_change_at_random_in_training():
    """Sapiens2 would rescale them by default; each anchor of a stitch would do so differently."""
    anchor = Anchor("vit_base_patch16_sapiens2", (64, 64), embed_dim=96).train()
    tables = [anchor.plain.block_options(0, grid)["rope"] for grid in ((4, 4), (4, 5))]
    made = [anchor.vit.rope.rope.get_embed(shape=grid) for grid in ((4, 4), (4, 5))]
    for ours, again in zip(tables, made, strict=True):
        assert torch.equal(ours, again)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sl", "ls"])
def test_anchors_with_and_without_swiglu_stitch(kind):
    torch.manual_seed(0)
    anchors = [tiny_eva(16, 4, "vit_small_patch16_dinov3"), tiny_eva(24, 4)]
    backbone = StitchedViT(anchors, 32, (3,), rank=2).eval()
    for layer in backbone.stitching_layers.values():
        torch.nn.init.normal_(layer.weight, std=0.3)
    (first, _, stop), (second, start, end) = next(
        stitch for stitch in backbone.space if stitch.kind == kind
    ).segments
    vits = [backbone.anchor(n).vit for n in (first, second)]
    assert [hasattr(vit.blocks[0].mlp, "fc1_g") for vit in vits] == [bool(first), bool(second)]

    image = torch.randn(2, 3, 32, 48)
    ((patches, prefix),) = vits[0].forward_intermediates(
        image,
        indices=[stop - 1],
        return_prefix_tokens=True,
        norm=False,
        output_fmt="NLC",
        intermediates_only=True,
    )
    tokens = backbone.layer(LayerKey(first, second, stop - 1))(torch.cat([prefix, patches], dim=1))
    for block in vits[1].blocks[start:end]:
        tokens = block(tokens, rope=vits[1].rope.get_embed(shape=[2, 3]))
    if second == 0:  # a level has the large anchor's width
        tokens = backbone.layer(LayerKey(0, 1, end - 1))(tokens)
    stitch = next(s.id for s in backbone.space if s.kind == kind)
    with backbone.use_stitch(stitch):
        (level,) = backbone(image)
    torch.testing.assert_close(level.flatten(2).mT, tokens[:, 5:], atol=1e-5, rtol=1e-5)

"""What a checkpoint of an anchor may and may not hold."""

import pytest
import safetensors.torch
import timm
import torch

from mmsn.errors import MissingFile, UserError
from mmsn.models import Anchor


def randomise(module):
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.05)
    return module.eval()


def saved(tmp_path, change=lambda state: state, name="vit.safetensors", **options):
    vit = timm.create_model("vit_tiny_patch16_224", **(dict(depth=2, img_size=64) | options))
    state = change({k: v.clone() for k, v in randomise(vit).state_dict().items()})
    path = tmp_path / name
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return str(path), vit


def load(path, **options):
    anchor = Anchor("vit_tiny_patch16_224", (64, 64), checkpoint=path, **(dict(depth=2) | options))
    anchor.init_weights()
    return anchor


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: {k: v for k, v in s.items() if "0.attn.qkv.bias" not in k},
         r"blocks.0.attn.qkv.bias is missing"),
        (lambda s: s | {"extra": torch.ones(2)}, r"extra is unknown"),
        (lambda s: s | {"cls_token": torch.ones(1, 1, 5)},
         r"cls_token has shape \(1, 1, 5\), not \(1, 1, 192\)"),
        (lambda s: s | {"cls_token": torch.full((1, 1, 192), float("nan"))},
         r"cls_token holds NaN"),
    ],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_keys(tmp_path, change, reason):
    path, _ = saved(tmp_path, change)
    with pytest.raises(UserError, match=reason) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_all_faulty_keys_are_listed(tmp_path):
    path, _ = saved(tmp_path, depth=3)
    with pytest.raises(UserError, match=r"\(12 faults\)") as caught:
        load(path)
    assert str(caught.value).count("blocks.2.") == 12


def test_position_and_patch_embeddings_are_resampled_by_timm(tmp_path):
    path, _ = saved(tmp_path)
    anchor = load(path, patch_size=8)
    assert anchor.vit.pos_embed.shape == (1, 65, 192)
    assert anchor.vit.patch_embed.proj.weight.shape[-2:] == (8, 8)
    reference = timm.create_model(
        "vit_tiny_patch16_224",
        pretrained=True,
        pretrained_cfg_overlay=dict(file=path, num_classes=1000),
        num_classes=1000,
        img_size=64,
        patch_size=8,
        depth=2,
    )
    torch.testing.assert_close(anchor.vit.pos_embed, reference.pos_embed)
    torch.testing.assert_close(
        anchor.vit.patch_embed.proj.weight, reference.patch_embed.proj.weight
    )


def test_a_pytorch_file_with_a_prefix_loads(tmp_path):
    path, vit = saved(
        tmp_path,
        lambda s: {"state_dict": {f"backbone.anchors.0.vit.{k}": v for k, v in s.items()}},
        name="epoch.pth",
    )
    anchor = load(path, prefix="backbone.anchors.0.")
    assert torch.equal(anchor.vit.blocks[1].mlp.fc2.weight, vit.blocks[1].mlp.fc2.weight)
    with pytest.raises(UserError, match=r"no key that starts with 'encoder\."):
        load(path, prefix="encoder.")


def test_a_missing_file_and_a_file_of_code_are_refused(tmp_path):
    with pytest.raises(MissingFile, match="does not exist"):
        load(str(tmp_path / "none.pth"))
    torch.save({"state_dict": pytest.raises}, tmp_path / "code.pth")
    with pytest.raises(UserError, match="cannot be read as plain tensors"):
        load(str(tmp_path / "code.pth"))


def test_pretrained_goes_through_timms_own_loading(tmp_path):
    path, vit = saved(tmp_path)
    overlay = dict(file=path, num_classes=1000)  # in place of a download
    anchor = Anchor(
        "vit_tiny_patch16_224", (64, 64), pretrained=True, depth=2, pretrained_cfg_overlay=overlay
    )
    assert not torch.equal(anchor.vit.cls_token, vit.cls_token)  # not before it is asked for
    anchor.init_weights()
    assert torch.equal(anchor.vit.cls_token, vit.cls_token)
    assert torch.equal(anchor.vit.blocks[1].mlp.fc1.weight, vit.blocks[1].mlp.fc1.weight)


def test_position_tables_load_with_their_anchor_or_are_refused(tmp_path):
    options = dict(depth=2, rel_pos_bias=True)
    trained = Anchor("vit_tiny_patch16_224", (64, 64), **options)
    for table in trained.rel_pos.tables.values():
        torch.nn.init.normal_(table)
    state = {f"backbone.anchors.0.{k}": v for k, v in trained.state_dict().items()}
    path = tmp_path / "one.pth"
    torch.save(state, path)
    mine = load(str(path), prefix="backbone.anchors.0.", **options)
    assert torch.equal(mine.rel_pos.tables["1"], trained.rel_pos.tables["1"])
    assert torch.equal(mine.vit.pos_embed, trained.vit.pos_embed)
    with pytest.raises(UserError, match="need rel_pos_bias=True"):
        load(str(path), prefix="backbone.anchors.0.")


def test_position_embeddings_of_a_grid_that_is_not_square_need_its_size(tmp_path):
    path, vit = saved(tmp_path, img_size=(64, 96))
    anchor = Anchor("vit_tiny_patch16_224", (64, 96), checkpoint=path, depth=2)
    anchor.init_weights()
    assert torch.equal(anchor.vit.pos_embed, vit.pos_embed)
    with pytest.raises(UserError, match=r"24 patches, which is not square.* give the img_size"):
        load(path)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_of_other_bytes_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("hello")
    with pytest.raises(UserError, match=rf"{name}' cannot be read as plain tensors") as caught:
        load(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_what_timm_drops_from_a_file_is_logged(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(
        "mmsn.models.anchor_weights.print_log", lambda text, **_: logged.append(text)
    )
    path, _ = saved(tmp_path, lambda s: s | {"mask_token": torch.ones(1, 192)})
    load(path)
    assert "mask_token" in logged[0]
    assert "head.weight" in logged[0]


def test_a_failed_download_names_the_anchor_and_the_way_out(monkeypatch):
    anchor = Anchor("vit_tiny_patch16_224", (64, 64), pretrained=True, depth=1)

    def fail(*args, **options):
        raise OSError("no\nnetwork")

    monkeypatch.setattr("timm.create_model", fail)
    with pytest.raises(UserError, match=r"vit_tiny_patch16_224.*no network.*checkpoint="):
        anchor.init_weights()

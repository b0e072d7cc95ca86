"""Smaller anchors: what they start from, what distillation does, and the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image

from mmsn import shrink
from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.shrink.child import pick_blocks, unit_outputs
from mmsn.shrink.width import narrow_state, principal_basis

NAME = "deit3_small_patch16_224"
PARENT = dict(embed_dim=24, depth=4, num_heads=3, init_values=0.5)
SIZE = (32, 48)


def make_parent(**options):
    parent = Anchor(NAME, (64, 64), **(PARENT | options))
    for parameter in parent.parameters():  # so that every part matters
        parameter.data += 0.3 * torch.randn_like(parameter)
    return parent.eval().requires_grad_(False)


@pytest.fixture
def parent():
    return make_parent()


@pytest.fixture
def folder(tmp_path):
    """Twelve images of smooth random colors, in two folders."""
    rng = np.random.default_rng(0)
    for n in range(12):
        small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        path = tmp_path / "images" / ("a" if n % 2 else "b") / f"{n}.{'jpg' if n % 3 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((80, 60), Image.Resampling.BICUBIC).save(path)
    return tmp_path / "images"


def unlabeled(folder, seed=0):
    return shrink.UnlabeledImages(shrink.find_images([folder]), SIZE, [0.5] * 3, [0.25] * 3, seed)


def make_distillation(parent, folder, steps=8, depth=2, width=None, **settings):
    plan = shrink.plan_child(parent, depth, "every", width)
    calibration = unlabeled(folder).batch(range(6))
    options = shrink.child_options(plan, PARENT)
    child, _ = shrink.start_child(parent, plan, (64, 64), options, images=calibration)
    settings = dict(lr=3e-3, batch_size=4) | settings
    return shrink.Distillation(
        parent, child, plan, shrink.DistillSettings(steps, **settings), calibration
    )


@pytest.mark.parametrize(
    ("asked", "blocks", "unit", "heads"),
    [
        (dict(depth=2), (0, 1), 2, 3),
        (dict(depth=2, blocks="every"), (0, 2), 2, 3),
        (dict(blocks=[1, 3]), (1, 3), 2, 3),
        (dict(width=16), (0, 1, 2, 3), 1, 2),
        (dict(width=18, heads=3, depth=1), (0,), 4, 3),
    ],
)
def test_plans_name_the_blocks_that_a_child_starts_from(parent, asked, blocks, unit, heads):
    plan = shrink.plan_child(parent, **asked)
    assert (plan.blocks, plan.unit, plan.heads) == (blocks, unit, heads)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (dict(depth=3), r"depth 3 does not divide the parent's 4: \[1, 2, 4\]"),
        (dict(depth=0), "depth 0 does not divide"),
        (dict(depth=2, blocks=[0, 4]), "blocks 0,4: give 2 numbers from 0 to 3"),
        (dict(depth=2, blocks=[0]), "blocks 0: give 2 numbers"),
        (dict(blocks="last"), "blocks 'last': give 'first', 'every'"),
        (dict(width=20), "width 20 is no multiple of the parent's head width 8"),
        (dict(width=48), "width 48 must lie between 1 and the parent's 24"),
        (dict(width=16, heads=3), "width 16 cannot be divided into 3 heads"),
        (dict(width=18, heads=2), "2 heads of 9 channels cannot be cut from the parent's 3 of 8"),
        (dict(heads=2), "2 heads at the parent's width: it has 3"),
    ],
)
def test_children_that_do_not_fit_are_refused(parent, asked, reason):
    with pytest.raises(UserError, match=reason):
        shrink.plan_child(parent, **asked)


def test_a_cut_child_runs_the_chosen_blocks(parent):
    plan = shrink.plan_child(parent, blocks=[0, 3])
    child, basis = shrink.start_child(parent, plan, (64, 64), shrink.child_options(plan, PARENT))
    image = torch.randn(2, 3, *SIZE)
    tokens, grid = parent.embed(image)
    expected = parent.run(parent.run(tokens, 0, 1, grid), 3, 4, grid)
    assert basis is None
    assert torch.equal(child.run(*child.embed(image)[:1], 0, 2, grid), expected)


def test_a_random_start_shares_no_block_with_the_parent(parent):
    plan = shrink.plan_child(parent, 2)
    options = shrink.child_options(plan, PARENT)
    child, _ = shrink.start_child(parent, plan, (64, 64), options, start="random")
    own, other = child.vit.blocks[0].mlp.fc1.weight, parent.vit.blocks[0].mlp.fc1.weight
    assert (own - other).abs().mean() > 0.05


def test_a_child_may_start_from_a_file(parent, tmp_path):
    plan = shrink.plan_child(parent, 2)
    options = shrink.child_options(plan, PARENT)
    earlier, _ = shrink.start_child(parent, plan, (64, 64), options, start="random")
    file = tmp_path / "child.safetensors"
    safetensors.torch.save_file(earlier.vit.state_dict(), file)
    child, _ = shrink.start_child(parent, plan, (64, 64), options, start=str(file))
    for name, value in earlier.vit.state_dict().items():
        assert torch.equal(child.vit.state_dict()[name], value), name


def test_an_unknown_start_is_refused(parent):
    plan = shrink.plan_child(parent, 2)
    with pytest.raises(UserError, match="start 'parnet': choose one of parent, random, or an exi"):
        shrink.start_child(parent, plan, (64, 64), shrink.child_options(plan, PARENT), "parnet")


def test_narrowing_is_exact_where_the_parent_uses_no_more(parent):
    """A parent of width 24 that lives in 15 directions, 2 heads and 64 hidden units."""
    vit = parent.vit
    directions = torch.linalg.qr(torch.cat([torch.ones(24, 1), torch.randn(24, 15)], 1)).Q[:, 1:]
    inside = directions @ directions.T  # a projector; what it leaves sums to zero over channels
    for value in (vit.cls_token, vit.pos_embed):
        value.data = value @ inside
    vit.patch_embed.proj.weight.data = torch.einsum(
        "ij,jchw->ichw", inside, vit.patch_embed.proj.weight
    )
    vit.patch_embed.proj.bias.data = inside @ vit.patch_embed.proj.bias
    for block in vit.blocks:
        for layer, scale in ((block.attn.proj, block.ls1), (block.mlp.fc2, block.ls2)):
            undo = 1 / scale.gamma  # what is added to the tokens must lie inside, after the scale
            layer.weight.data = undo[:, None] * (inside @ (scale.gamma[:, None] * layer.weight))
            layer.bias.data = undo * (inside @ (scale.gamma * layer.bias))
        block.attn.proj.weight.data[:, 8:16] = 0  # the second head is silent
        block.mlp.fc2.weight.data[:, 10:42] = 0  # as are 32 of the 96 hidden units
    image = torch.randn(2, 3, *SIZE)
    wide = unit_outputs(parent, image, 1)
    basis = principal_basis(wide, 16)
    child = Anchor(NAME, (64, 64), **(PARENT | dict(embed_dim=16, num_heads=2))).eval()
    child.vit.load_state_dict(narrow_state(vit, basis, 2, child.vit))
    for narrow, tokens in zip(unit_outputs(child, image, 1), wide, strict=True):
        torch.testing.assert_close(narrow, tokens @ basis.T, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(narrow @ basis, tokens, rtol=1e-3, atol=1e-4)


def test_narrowing_refuses_parts_that_it_cannot_project(folder):
    parent = make_parent(qk_norm=True)
    plan = shrink.plan_child(parent, width=16)
    options = shrink.child_options(plan, PARENT | dict(qk_norm=True))
    images = torch.randn(1, 3, *SIZE)
    with pytest.raises(UserError, match="norms in the attention cannot be narrowed: start from"):
        shrink.start_child(parent, plan, (64, 64), options, images=images)
    child, basis = shrink.start_child(parent, plan, (64, 64), options, "random", images)
    assert (child.dim, basis) == (16, None)


def test_pick_blocks_numbers_them_anew():
    state = {"pos_embed": 1, "blocks.1.w": 2, "blocks.10.w": 3, "blocks.0.w": 4}
    assert pick_blocks(state, [10, 1]) == {"pos_embed": 1, "blocks.0.w": 3, "blocks.1.w": 2}


def test_images_are_a_function_of_seed_and_number(folder):
    images = unlabeled(folder)
    forward = [images[n] for n in (0, 5, 30)]
    again = unlabeled(folder)
    backward = [again[n] for n in (30, 5, 0)]
    assert all(map(torch.equal, backward, forward[::-1]))
    assert not torch.equal(images[0], unlabeled(folder, seed=1)[0])
    assert forward[0].shape == (3, *SIZE)


def test_an_epoch_shows_every_image_once(folder):
    images = unlabeled(folder)
    for epoch in range(2):
        seen = []
        for n in range(12 * epoch, 12 * epoch + 12):
            images[n]
            seen.append(int(images._order[n % 12]))
        assert sorted(seen) == list(range(12))


def test_images_without_a_seed_are_read_as_they_are(folder):
    files = shrink.find_images([folder])
    plain = shrink.UnlabeledImages(files, (60, 80), [0.5] * 3, [0.25] * 3)
    expected = np.asarray(Image.open(files[3]).convert("RGB")) / 255
    expected = torch.tensor((expected - 0.5) / 0.25, dtype=torch.float32).permute(2, 0, 1)
    torch.testing.assert_close(plain[3], expected)


def test_large_photographs_are_decoded_smaller_without_moving(tmp_path):
    """The left half is black and the right half white, at any decoding scale."""
    picture = np.zeros((960, 1280, 3), np.uint8)
    picture[:, 640:] = 255
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    image = shrink.UnlabeledImages([tmp_path / "a.jpg"], (60, 80), [0] * 3, [1] * 3)[0]
    assert image[:, :, :38].max() < 0.05
    assert image[:, :, 42:].min() > 0.95


def test_sources_are_folders_and_lists(folder, tmp_path):
    files = shrink.find_images([folder])
    assert len(files) == 12
    listed = tmp_path / "list.txt"
    listed.write_text("images/b/0.png\n\nimages/a/1.jpg\n")
    assert shrink.find_images([listed]) == [folder / "b" / "0.png", folder / "a" / "1.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty' holds no image"):
        shrink.find_images([folder, tmp_path / "empty"])
    listed.write_text("images/b/0.png\nimages/nothing.jpg\n")
    with pytest.raises(FileNotFoundError, match=r"lists 1 images that do not exist.*nothing\.jpg"):
        shrink.find_images([listed])
    with pytest.raises(FileNotFoundError, match="absent"):
        shrink.find_images([tmp_path / "absent"])


def test_a_broken_image_is_named(folder):
    (folder / "broken.jpg").write_bytes(b"no image")
    images = shrink.UnlabeledImages([folder / "broken.jpg"], SIZE, [0.5] * 3, [0.25] * 3)
    with pytest.raises(UserError, match=r"broken\.jpg' cannot be read"):
        images[0]


def test_held_out_images_are_no_training_images():
    files = [Path(str(n)) for n in range(10)]
    train, held_out = shrink.held_out_split(files, 3, seed=0)
    assert sorted(train + held_out) == sorted(files)
    assert len(held_out) == 3
    assert shrink.held_out_split(files, 3, seed=0) == (train, held_out)
    with pytest.raises(UserError, match="10 held-out images of 10"):
        shrink.held_out_split(files, 10, seed=0)


def test_the_whole_parent_leaves_nothing_unexplained(parent, folder):
    plan = shrink.plan_child(parent)
    child, _ = shrink.start_child(parent, plan, (64, 64), PARENT)
    for error in shrink.measure(parent, child, plan, unlabeled(folder)):
        assert error.mapped == 0
        assert error.linear < 1e-6


def test_unexplained_shares_are_those_of_the_definition(parent, folder):
    plan = shrink.plan_child(parent, 2)
    child, _ = shrink.start_child(parent, plan, (64, 64), shrink.child_options(plan, PARENT))
    images = unlabeled(folder)
    errors = shrink.measure(parent, child, plan, images, batch_size=4)
    batch = images.batch(range(12))
    own = unit_outputs(child, batch, 1)[2].detach().reshape(-1, 24).double()
    target = unit_outputs(parent, batch, 2)[2].reshape(-1, 24).double()
    energy = (target - target.mean(0)).square().sum()
    design = torch.cat([own, torch.ones(len(own), 1)], 1).double().unflatten(0, (12, -1))
    fitted = torch.empty(12, design.shape[1], 24, dtype=torch.float64)
    for half in (0, 1):  # fitted on the other images
        x, y = design[1 - half :: 2].flatten(0, 1), target.unflatten(0, (12, -1))[1 - half :: 2]
        fitted[half::2] = design[half::2] @ torch.linalg.lstsq(x, y.flatten(0, 1)).solution
    fitted = fitted.flatten(0, 1)
    assert (errors[1].start, errors[1].stop) == (2, 4)
    assert math.isclose(errors[1].mapped, (own - target).square().sum() / energy, rel_tol=1e-4)
    assert math.isclose(errors[1].linear, (fitted - target).square().sum() / energy, rel_tol=1e-4)


@pytest.mark.parametrize(
    "options", [dict(), dict(width=16, depth=4), dict(linear_maps=True), dict(bf16=True)]
)
def test_distillation_explains_more_of_the_parent(parent, folder, options):
    distillation = make_distillation(parent, folder, steps=30, **options)
    plan, images = distillation.plan, unlabeled(folder, seed=7)
    whole = parent.state_dict()
    before = {key: value.clone() for key, value in whole.items()}
    first = shrink.measure(parent, distillation.child, plan, images, distillation.maps)
    distillation.run(unlabeled(folder))
    last = shrink.measure(parent, distillation.child, plan, images, distillation.maps)
    assert sum(unit.mapped for unit in last) < 0.8 * sum(unit.mapped for unit in first)
    assert all(torch.equal(whole[key], value) for key, value in before.items())


def test_the_loss_is_the_mean_unexplained_share(parent, folder):
    distillation = make_distillation(parent, folder)
    batch = unlabeled(folder).batch(range(6))  # the calibration images, so the variance is theirs
    errors = shrink.measure(
        parent, distillation.child, distillation.plan, list(batch), distillation.maps
    )
    loss = distillation.train_step(batch)
    assert math.isclose(loss, sum(e.mapped for e in errors) / len(errors), rel_tol=1e-4)


class Interrupt(Exception):
    pass


@pytest.mark.parametrize("width", [None, 16])
def test_an_interrupted_distillation_ends_like_an_undisturbed_one(parent, folder, tmp_path, width):
    undisturbed = make_distillation(parent, folder, width=width)
    losses = []
    undisturbed.run(unlabeled(folder), on_step=lambda step, loss: losses.append(loss))

    def interrupt(step, loss):
        if step == 5:
            raise Interrupt

    state = tmp_path / "state"
    with pytest.raises(Interrupt):
        make_distillation(parent, folder, width=width).run(
            unlabeled(folder), state, save_every=3, on_step=interrupt
        )
    continued = make_distillation(parent, folder, width=width)
    continued.resume(state)
    assert continued.step == 3
    rest = []
    continued.run(unlabeled(folder), on_step=lambda step, loss: rest.append(loss))
    assert rest == losses[3:]
    for key, value in undisturbed.child.state_dict().items():
        assert torch.equal(continued.child.state_dict()[key], value), key


def test_a_state_of_other_settings_is_refused(parent, folder, tmp_path):
    make_distillation(parent, folder).save(tmp_path / "state")
    with pytest.raises(UserError, match=r"another settings \(lr 0.003 then, 0.1 now\)"):
        make_distillation(parent, folder, lr=0.1).resume(tmp_path / "state")
    parent.vit.cls_token.data += 1
    with pytest.raises(UserError, match="another parent"):
        make_distillation(parent, folder).resume(tmp_path / "state")


def test_a_loss_that_is_no_number_ends_the_run(parent, folder):
    distillation = make_distillation(parent, folder)
    distillation.maps.variance.zero_()
    with pytest.raises(UserError, match=r"the loss of step 1 is (inf|nan): lower lr"):
        distillation.run(unlabeled(folder))


def test_the_rate_warms_up_and_falls_to_zero():
    settings = shrink.DistillSettings(100, lr=1.0)
    rates = [settings.lr_at(step) for step in range(101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[52] == pytest.approx(0.5, abs=0.02)
    assert rates[100] == pytest.approx(0)


@pytest.fixture
def command(tool, folder, tmp_path):
    """The command on a random parent; gives the file that it wrote."""
    parent = make_parent()
    safetensors.torch.save_file(parent.vit.state_dict(), tmp_path / "parent.safetensors")
    options = [f"{key}={value}" for key, value in PARENT.items()]

    def call(*words, out="child.safetensors", images=(str(folder),)):
        sources = ["--images", *images] if images else []
        source = ["--checkpoint", str(tmp_path / "parent.safetensors")]
        source += ["--timm-options", *options, "--parent-size", "64", "64"]
        reading = ["--image-size", "32", "48", "--held-out", "4", "--calibration", "4", *sources]
        target = ["--out", str(tmp_path / out), "--batch-size", "2"]
        tool("shrink_anchor").main([NAME, *source, *reading, *target, *words])
        return tmp_path / out

    return call


def test_the_command_writes_an_anchor(command, capsys):
    out = command("--depth", "2", "--width", "16", "--distill-steps", "3")
    assert "12 to" not in (printed := capsys.readouterr().out)
    assert "0 to 1" in printed
    assert "from blocks [0, 2]" in printed
    with safetensors.safe_open(out, "pt") as file:
        record = json.loads(file.metadata()["shrink"])
    assert record["anchor"]["model_name"] == NAME
    assert (record["blocks"], record["distillation"]["steps"]) == ([0, 2], 3)
    assert record["images"]["training"] == 8
    assert [unit["stop"] for unit in record["units"]] == [2, 4]
    assert 0 < record["units"][0]["mapped"] < 1
    child = Anchor(**record["anchor"], checkpoint=str(out))
    child.init_weights()
    assert (child.depth, child.dim) == (2, 16)
    with safetensors.safe_open(out, "pt") as file:
        stored = file.get_tensor("blocks.1.mlp.fc1.weight")
    assert torch.equal(child.vit.blocks[1].mlp.fc1.weight, stored)
    assert not out.with_name(out.name + ".state").exists()


def test_the_command_cuts_without_images(command, parent, tmp_path):
    first = safetensors.torch.load_file(command("--depth", "2", images=()))
    out = command("--blocks", "1,2", images=())
    cut = safetensors.torch.load_file(out)
    whole = safetensors.torch.load_file(tmp_path / "parent.safetensors")
    assert torch.equal(first["blocks.1.mlp.fc1.weight"], whole["blocks.1.mlp.fc1.weight"])
    assert torch.equal(cut["blocks.0.mlp.fc1.weight"], whole["blocks.1.mlp.fc1.weight"])
    assert not any(key.startswith("blocks.2") for key in cut)


def test_the_command_continues_where_it_was_stopped(command, monkeypatch, capsys):
    words = ("--depth", "2", "--distill-steps", "4", "--save-every", "2")
    undisturbed = safetensors.torch.load_file(command(*words, out="undisturbed.safetensors"))
    real = shrink.Distillation.train_step

    def stop_at_third(self, batch):
        if self.step == 2:
            raise Interrupt
        return real(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(shrink.Distillation, "train_step", stop_at_third)
        with pytest.raises(Interrupt):
            command(*words)
    capsys.readouterr()
    continued = safetensors.torch.load_file(command(*words))
    assert "continues after step 2 of 4" in capsys.readouterr().out
    assert all(torch.equal(continued[key], value) for key, value in undisturbed.items())


@pytest.mark.parametrize(
    ("words", "options", "reason"),
    [
        (["--distill-steps", "2"], dict(images=()), "--distill-steps 2 needs --images"),
        (["--width", "16"], dict(images=()), "needs images"),
        (["--depth", "3"], {}, "depth 3 does not divide"),
        (["--held-out", "12"], {}, "12 held-out images of 12"),
        (["--batch-size", "0"], {}, "batch_size 0 must be at least 1"),
        (["--held-out", "1"], {}, "too few images to compare child and parent"),
        (["--device", "toaster"], {}, "--device 'toaster': Expected one of cpu"),
        (["--lr", "nan"], {}, "lr nan must be a positive number"),
        ([], dict(out="child.pth"), r"child\.pth' must end in \.safetensors"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(command, words, options, reason):
    with pytest.raises(UserError, match=reason):
        command(*words, **options)

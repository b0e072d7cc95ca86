"""What every kind of stitched backbone does: running, sharing, choosing and training a stitch.

Tests with ``build_each`` run on each kind, those with ``build`` on plain ViTs stitched two ways.
"""

import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils._pytree import tree_map

from mmsn.errors import UserError
from mmsn.models import StitchedSwin, StitchedViT
from tests.tiny import tiny_anchor, tiny_eva, tiny_swin_backbone


def vit(**changes):
    anchors = [tiny_anchor(d, 4, init_values=1.0) for d in (16, 24, 32)]
    options = dict(anchors=anchors, img_size=64, out_indices=(0, 1, 2, 3), rank=0, space="one_way")
    return StitchedViT(**(options | changes)).eval()


def swin(**changes):
    options = tiny_swin_backbone(**changes)
    options.pop("type")
    return StitchedSwin(**options).eval()


@pytest.fixture(params=[vit, swin])
def build_each(request):
    """Makes a backbone of three anchors, stitched one way; weights show in outputs."""

    def make(**changes):
        backbone = request.param(**changes)
        for name, parameter in backbone.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.2)
        return backbone

    return make


def outputs(backbone, image):
    found = {}
    for stitch in backbone.space.ids:
        with backbone.use_stitch(stitch):
            found[stitch] = backbone(image)
    return found


@torch.no_grad()
def test_shared_beginnings_change_no_bit(build_each):
    backbone, image = build_each(), torch.randn(2, 3, 64, 48)
    expected = outputs(backbone, image)
    passes = backbone.share_prefixes(backbone.space.ids)
    for stitch in passes.trie.order:
        with backbone.use_stitch(stitch, passes):
            for ours, alone in zip(backbone(image), expected[stitch], strict=True):
                assert torch.equal(ours, alone)


@torch.no_grad()
def test_each_stitch_alone_gives_the_same_and_holds_what_is_counted(build_each):
    whole, image = build_each(), torch.randn(1, 3, 64, 48)
    expected, state = outputs(whole, image), whole.state_dict()
    counted = whole.stitch_params()
    for stitch in whole.space:
        small = build_each(stitches=[stitch.id])
        small.load_state_dict({name: state[name] for name in small.state_dict()})
        assert small.stitch == stitch
        assert sum(p.numel() for p in small.parameters()) == counted[stitch.id]
        assert small.stitch_macs((64, 48)) == {stitch.id: whole.stitch_macs((64, 48))[stitch.id]}
        for ours, theirs in zip(small(image), expected[stitch.id], strict=True):
            assert torch.equal(ours, theirs)


def test_every_layer_of_a_backbone_is_used(build_each):
    backbone = build_each()
    parts = backbone.space.parts(backbone.space, backbone.out_indices, backbone.train_levels)
    assert parts.layers == set(backbone.layer_keys)


def test_several_stitches_train_in_one_step_on_their_parts_of_the_batch(build_each):
    backbone, images = build_each().train(), torch.randn(5, 3, 64, 64)
    backbone.set_training_stitches([0, 4])
    levels = backbone(images)
    for stitch, part in ((0, slice(0, 3)), (4, slice(3, 5))):
        with backbone.use_stitch(stitch):
            alone = backbone(images[part])
        for ours, expected in zip(levels, alone, strict=True):
            torch.testing.assert_close(ours[part], expected)


def test_levels_of_zeros_look_like_real_ones(build_each):
    backbone = build_each()
    real = backbone(torch.randn(1, 3, 50, 70))
    shapes = tree_map(lambda level: tuple(level.shape), (real, backbone.zero_levels((50, 70))))
    assert shapes[0] == shapes[1]
    assert all(not level.any() for level in backbone.zero_levels((50, 70)))
    assert all(level.is_meta for level in backbone.zero_levels((50, 70), "meta"))


def test_frozen_anchors_leave_layers_and_norms_to_train(build_each):
    backbone = build_each(freeze_anchors=True).train()
    assert not backbone.anchors.training
    trained = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"stitching_layers"} | ({"norms"} if hasattr(backbone, "norms") else set())


@torch.no_grad()
def test_stitches_differ(build):
    backbone, image, outputs = build(), torch.randn(1, 3, 64, 64), []
    for stitch in backbone.space:
        with backbone.use_stitch(stitch.id):
            outputs.append(backbone(image)[-1])
    for i, left in enumerate(outputs):
        assert all((left - right).abs().max() > 1e-3 for right in outputs[i + 1 :])


@torch.no_grad()
def test_a_level_that_nothing_reads_is_not_computed(build):
    backbone, image = build(eval_levels=(1, 3)), torch.randn(1, 3, 64, 64)
    calls = []
    for name, layer in backbone.stitching_layers.items():
        layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    backbone.set_stitch(0)
    maps = backbone(image)
    assert maps[0] is maps[2] is None
    assert calls == ["0_to_1_after_1", "0_to_1_after_3"]
    calls.clear()
    assert all(level is not None for level in backbone.train()(image))
    assert calls == [f"0_to_1_after_{unit}" for unit in range(4)]


@torch.no_grad()
def test_a_layer_that_joins_at_a_level_runs_once(build):
    backbone = build()
    calls = []
    for name, layer in backbone.stitching_layers.items():
        layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    for stitch in backbone.space:
        calls.clear()
        with backbone.use_stitch(stitch.id):
            backbone(torch.randn(1, 3, 32, 32))
        assert len(calls) == len(set(calls))


def test_parameters_of_a_stitch_are_those_that_get_a_gradient(build):
    backbone = build().train()
    counted = backbone.stitch_params(range(4))
    for stitch in backbone.space:
        backbone.zero_grad(set_to_none=True)
        for p in backbone.parameters():
            p.requires_grad_(True)
        with backbone.use_stitch(stitch.id):
            sum(level.square().sum() for level in backbone(torch.randn(1, 3, 64, 64))).backward()
        used = sum(p.numel() for p in backbone.parameters() if p.grad is not None)
        assert counted[stitch.id] == used, stitch


def test_set_and_use(build):
    backbone = build()
    assert backbone.stitch.id == 1  # the largest anchor, by default
    backbone.set_stitch(2)
    with backbone.use_stitch(0) as stitch:
        assert stitch == backbone.stitch == backbone.space[0]
    with pytest.raises(RuntimeError), backbone.use_stitch(0):
        raise RuntimeError
    with pytest.raises(UserError, match="stitch 5 is unknown"):
        backbone.set_stitch(5)  # the stitch that would run no block after its join
    assert backbone.stitch.id == 2


@torch.no_grad()
def test_threads_choose_for_themselves(build):
    """Requests with different stitches share one set of weights at the same time."""
    backbone, images = build(), torch.randn(8, 1, 3, 64, 64)
    everything_chosen = threading.Barrier(4, timeout=60)
    requests = [(image, stitch) for image in images for stitch in backbone.space.ids]

    def answer(image, stitch):
        with torch.no_grad(), backbone.use_stitch(stitch):
            return backbone(image)[-1]

    def serve(worker):
        with torch.no_grad(), backbone.use_stitch(worker):
            everything_chosen.wait()  # all four hold a stitch now, each its own
            first = backbone(images[0])[-1]
        return [first, *(answer(*request) for request in requests[worker::4])]

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(serve, range(4)))
    for worker, got in enumerate(outputs):
        expected = [answer(images[0], worker), *(answer(*r) for r in requests[worker::4])]
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("anchor", [tiny_anchor, tiny_eva])
def test_a_copy_made_while_a_stitch_is_in_use_has_its_own_choice(build, anchor):
    backbone = build([anchor(16, 4), anchor(24, 8)])
    backbone(torch.randn(1, 3, 32, 32))  # fills what is kept per grid
    with backbone.use_stitch(0):
        twin = copy.deepcopy(backbone)
        assert (backbone.stitch.id, twin.stitch.id) == (0, 1)
        assert pickle.loads(pickle.dumps(backbone)).stitch.id == 1


@torch.no_grad()
def test_a_state_dict_saved_in_evaluation_mode_reloads_to_the_same_outputs(build):
    backbone, image = build(), torch.randn(1, 3, 64, 64)
    file = io.BytesIO()
    torch.save(backbone.eval().state_dict(), file)
    file.seek(0)
    other = build()
    other.load_state_dict(torch.load(file, weights_only=True))
    for stitch in backbone.space:
        for mode in (True, False, True):
            with backbone.use_stitch(stitch.id), other.use_stitch(stitch.id):
                ours, theirs = backbone.train(mode)(image), other.train(mode)(image)
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def saved_bytes(backbone, stitch, image):
    """Bytes that autograd keeps of the pass of a stitch, by the anchor whose blocks run."""
    kept, now = {}, ["embed"]
    for index, anchor in enumerate(backbone.anchors):
        for block in anchor.vit.blocks:
            block.register_forward_pre_hook(lambda *_, i=index: now.__setitem__(0, i))
            block.register_forward_hook(lambda *_: now.__setitem__(0, "between"))

    def pack(tensor):
        kept[now[0]] = kept.get(now[0], 0) + tensor.nbytes
        return tensor

    backbone.set_stitch(stitch)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        levels = backbone(image)
    loss = sum(level.square().sum() for level in levels)
    if loss.requires_grad:
        loss.backward()
    return kept


@pytest.mark.parametrize("anchor", [tiny_anchor, tiny_eva])
def test_frozen_anchors_keep_activations_only_after_a_trained_layer(build, anchor):
    anchors = [anchor(16, 4), anchor(24, 4)]
    options = dict(out_indices=(0, 1, 2, 3))
    image = torch.randn(2, 3, 64, 64)
    for stitch, (first, *rest) in {0: (0,), 1: (1,), 2: (0, 1), 6: (1, 0)}.items():
        backbone = build(anchors, freeze_anchors=True, **options).train()
        assert tuple(s.anchor for s in backbone.space[stitch].segments) == (first, *rest)
        frozen = saved_bytes(backbone, stitch, image)
        whole = saved_bytes(build(anchors, **options).train(), stitch, image)
        assert "embed" not in frozen
        assert first not in frozen  # no gradient passes through the blocks before the first layer
        assert first in whole
        for later in rest:  # gradients pass to the layer before; weights need none
            assert 0 < frozen[later] < whole[later]
        grads = {name for name, p in backbone.named_parameters() if p.grad is not None}
        assert all(name.startswith("stitching_layers.") for name in grads)
        assert bool(grads) == (stitch != 1)  # the last anchor alone has no stitching layer


def test_recomputing_saves_memory_also_behind_a_trained_layer_of_frozen_anchors(build):
    image, kept, grads = torch.randn(1, 3, 64, 64), [], []
    for with_cp in (False, True):
        torch.manual_seed(0)
        backbone = build(freeze_anchors=True, with_cp=with_cp).train()
        kept.append(saved_bytes(backbone, 2, image).get(1, 0))
        grads.append(backbone.layer(backbone.layer_keys[0]).lora_A.grad)
    assert kept[0] > kept[1] == 0
    torch.testing.assert_close(*grads)

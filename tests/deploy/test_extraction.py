"""Extractions: the supernet's outputs from fewer weights, in files that load anywhere."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmseg.apis import init_model
from mmseg.structures import SegDataSample

from mmsn.deploy import extract, save
from mmsn.errors import UserError
from mmsn.models import read_config, segmentor_params
from mmsn.state_dict import read_checkpoint
from tests.configs.test_configs import shrink
from tests.deploy.conftest import CONFIGS, STITCHES, build, trained


def logits(model, image):
    """What mmseg predicts for the whole image, by sliding windows where the config says so."""
    meta = dict(img_shape=image.shape[2:], ori_shape=image.shape[2:], pad_shape=image.shape[2:])
    with torch.no_grad():
        return model.inference(image, [meta] * len(image))


def assert_same(ours, theirs):
    """To 1e-6 of the largest logit: merging rounds once more, and the last bit may differ."""
    assert theirs.std() > 1e-2
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def extracted(config, model, ids):
    small, weights = extract(config, model.state_dict(), ids)
    network = build(small).eval()
    network.load_state_dict(weights)
    return small, network


def test_each_stitch_predicts_what_the_supernet_does(supernet):
    config, model, stitches = supernet
    assert config.model.test_cfg.mode == "slide"
    image = torch.randn(1, 3, 64, 91)  # two windows
    for stitch in stitches:
        _, network = extracted(config, model, [stitch])
        with model.backbone.use_stitch(stitch):
            expected = logits(model, image)
        assert_same(logits(network, image), expected)


def test_a_depth_head_reads_the_levels_that_are_left():
    config = shrink(
        Config.fromfile(
            CONFIGS
            / "multitask"
            / "snnetv2_deit3-s-l-r16_setr-naive-dpt_8xb2-36k_nyuv2-seg-depth-480x480.py"
        )
    )
    config.model.backbone.eval_levels = (1, 3)
    for anchor in config.model.backbone.anchors:
        anchor.depth = 4
    config.model.backbone.out_indices = (0, 1, 2, 3)
    config.model.depth_head = dict(
        type="mmsn.UPerDepthHead",
        in_channels=[32, 32],
        in_index=[1, 3],
        channels=8,
        pool_scales=(1, 2),
    )
    model = trained(config)
    small, network = extracted(config, model, [0])
    assert (small.model.decode_head.in_index, small.model.depth_head.in_index) == (1, [0, 1])
    image = torch.randn(1, 3, 64, 64)
    with model.backbone.use_stitch(0):
        assert_same(logits(network, image), logits(model, image))


@pytest.mark.parametrize("stitch", STITCHES)
def test_without_an_update_it_is_the_same_bit_for_bit(setr, stitch):
    config, model = setr
    merged, network = extracted(config, model, model.backbone.space.ids)  # every stitch, rank 0
    _, alone = extracted(merged, network, [stitch])
    image = torch.randn(2, 3, 64, 64)
    with network.backbone.use_stitch(stitch):
        assert torch.equal(logits(alone, image), logits(network, image))


def test_nothing_but_what_the_stitch_uses_is_left(supernet):
    config, model, stitches = supernet
    counted = segmentor_params(model)
    for stitch in stitches:
        small, network = extracted(config, model, [stitch])
        assert small.model.backbone.rank == 0
        layers = network.backbone.layer_keys
        updates = sum(model.backbone.layer(k).lora_A.numel() for k in layers)
        updates += sum(model.backbone.layer(k).lora_B.numel() for k in layers)
        held = sum(p.numel() for p in network.parameters())
        assert held == counted[stitch] - updates
        assert segmentor_params(network) == {stitch: held}


def test_several_stitches_are_a_smaller_supernet(setr):
    config, model = setr
    ids = (9, 0, 2)
    small, network = extracted(config, model, ids)
    assert network.backbone.space.ids == (0, 2, 9)
    image = torch.randn(1, 3, 64, 64)
    for stitch in ids:
        with network.backbone.use_stitch(stitch), model.backbone.use_stitch(stitch):
            expected = logits(model, image)
            assert_same(logits(network, image), expected)
    again, weights = extract(small, network.state_dict(), [2])
    _, directly = extract(config, model.state_dict(), [2])
    assert again.model.backbone.stitches == [2]
    assert weights.keys() == directly.keys()
    assert all(torch.equal(weights[key], directly[key]) for key in weights)


def test_the_config_keeps_what_several_stitches_need_to_train(setr):
    config, model = setr
    config.load_from = "somewhere.pth"
    config.model.decode_head.init_cfg = dict(type="Pretrained", checkpoint="somewhere.pth")
    config.test_cfg.budgets = [50]
    one, _ = extract(config, model.state_dict(), [12])
    several, _ = extract(config, model.state_dict(), [0, 2])
    assert "somewhere" not in one.pretty_text + several.pretty_text
    assert "pretrained" not in one.pretty_text
    assert "alpha" not in one.model.backbone
    assert "auxiliary_head" not in several.model
    assert one.model.decode_head.in_index == 0
    assert one.model.backbone.out_indices == [7]
    assert [hook.type for hook in one.custom_hooks] == []
    assert [hook.type for hook in several.custom_hooks] == ["mmsn.FLOPsConstrainedSamplingHook"]
    assert several.find_unused_parameters
    assert "find_unused_parameters" not in one
    for loops in (one, several):
        assert loops.test_cfg == dict(type="mmsn.ParetoTestLoop", stitches="all")
    assert config.model.backbone.rank > 0  # the given one is as it was


def test_files_load_with_mmseg_from_any_folder(setr, tmp_path, monkeypatch):
    config, model = setr
    small, weights = extract(config, model.state_dict(), [2])
    meta = dict(classes=[str(i) for i in range(150)], palette=[[i, 0, 0] for i in range(150)])
    path = save(tmp_path / "out", small, weights, meta)
    assert path.stat().st_size < 4.1 * sum(w.numel() for w in weights.values()) + 20_000
    assert path.stat().st_mode == (tmp_path / "out" / "config.py").stat().st_mode
    monkeypatch.chdir(tmp_path / "out")
    network = init_model("config.py", "model.safetensors", device="cpu")
    assert network.dataset_meta == meta
    image = torch.randn(1, 3, 64, 64)
    with model.backbone.use_stitch(2):
        expected = logits(model, image)
    assert_same(logits(network, image), expected)
    state, read = read_checkpoint("model.safetensors")
    assert read == meta
    assert all(torch.equal(state[key], weights[key]) for key in weights)
    with pytest.raises(UserError, match=r"holds config.py and model.safetensors already"):
        save(tmp_path / "out", small, weights)


def test_a_smaller_supernet_is_read_without_its_supernet(setr, tmp_path):
    config, model = setr
    path = save(tmp_path, *extract(config, model.state_dict(), [0, 2]))
    small, weights = extract(read_config(tmp_path / "config.py"), read_checkpoint(path)[0], [0])
    assert small.model.backbone.stitches == [0]
    assert not any(".anchors.1." in key for key in weights)


def _without(key):
    def change(config, state):
        del state[key]

    return change


def _another_width(config, state):
    config.model.backbone.anchors[0].embed_dim = 8


def _no_stitches(config, state):
    config.model.backbone = dict(
        type="VisionTransformer", img_size=(64, 64), embed_dims=32, num_layers=8, num_heads=2,
        out_indices=(1, 3, 5, 7),
    )  # fmt: skip


def _unread_level(config, state):
    config.model.backbone.eval_levels = (1, 2)


@pytest.mark.parametrize(
    ("change", "ids", "message"),
    [
        (lambda c, s: None, [99], "stitch 99 is unknown: ids are 0 to"),
        (lambda c, s: None, [], "give at least one id"),
        (_without("backbone.anchors.1.vit.pos_embed"), [0], r"1 keys are missing \(backbone.anch"),
        (lambda c, s: s.update(extra=torch.ones(1)), [0], r"1 keys are unexpected \(extra\)"),
        (_another_width, [0], r"have another shape \(.* instead of "),
        (_no_stitches, [0], "has type 'VisionTransformer', which has no stitches"),
        (_unread_level, [0], r"in_index 3 reads a level that .* eval_levels \(1, 2\) leave out"),
    ],
)
def test_bad_input_is_refused_in_one_line(setr, change, ids, message):
    config, model = setr
    config, state = Config(copy.deepcopy(config.to_dict())), model.state_dict()
    change(config, state)
    with pytest.raises(UserError, match=message) as caught:
        extract(config, state, ids)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_auxiliary_heads_may_be_missing(setr):
    config, model = setr
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("auxiliary_head")}
    assert len(state) < len(model.state_dict())
    extract(config, state, [0])


def test_a_neck_of_none_is_no_neck(setr):
    """So a config writes it whose base has a neck."""
    config, model = setr
    config.model.neck = None
    small, _ = extract(config, model.state_dict(), [0])
    assert small.model.decode_head.in_index == 0  # the one level that is left


def test_weights_share_no_memory_with_what_is_left_out(setr):
    config, model = setr
    _, weights = extract(config, model.state_dict(), [0])
    assert sum(w.untyped_storage().nbytes() for w in weights.values()) == sum(
        w.nbytes for w in weights.values()
    )
    assert not any(w.requires_grad for w in weights.values())


def test_prediction_through_the_whole_of_mmseg(setr, tmp_path):
    """``test_step`` with preprocessing and resizing, as tools/test.py calls it."""
    config, model = setr
    path = save(tmp_path, *extract(config, model.state_dict(), [6]))
    network = init_model(tmp_path / "config.py", str(path), device="cpu")
    image = torch.randint(0, 256, (3, 70, 50), dtype=torch.uint8)
    sample = SegDataSample(metainfo=dict(img_shape=(70, 50), ori_shape=(140, 100)))
    outputs = []
    for net in (model, network):
        with torch.no_grad(), net.backbone.use_stitch(6):
            data = dict(inputs=[image], data_samples=[copy.deepcopy(sample)])
            outputs.append(net.test_step(data)[0].seg_logits.data)
    assert_same(*outputs)

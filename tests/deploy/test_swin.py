"""Stitches of Swins leave the supernet as those of plain ViTs do."""

import pytest
import torch
from mmengine.config import Config

from mmsn.deploy import Predictor, export, extract, open_exported, open_stitch, plain, save
from mmsn.errors import UserError
from mmsn.models import segmentor_params
from mmsn.models.opening import with_weights
from tests.configs.leaves import build, shrink
from tests.deploy.conftest import CONFIGS
from tests.deploy.test_extraction import extracted, logits

CONFIG = CONFIGS / "snnet" / "snnet_swin-ti-s-b_upernet_8xb2-160k_ade20k-512x512.py"
# The anchors, and joins in the first and in the third stage.
STITCHES = (0, 1, 2, 3, 8)


@pytest.fixture
def config():
    return shrink(Config.fromfile(CONFIG))


def trained(config):
    """A segmentor none of whose parts is as it was made."""
    model = build(config).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn_like(tensor) * 0.1
            tensor.add_(noise.abs() if name.endswith("running_var") else noise)
    return model


def test_each_stitch_is_the_supernets_bit_for_bit_and_holds_what_is_counted(config):
    model, image = trained(config), torch.randn(1, 3, 64, 91)  # several windows
    counted, before = segmentor_params(model), []
    for stitch in STITCHES:
        small, network = extracted(config, model, [stitch])
        with model.backbone.use_stitch(stitch):
            expected = logits(model, image)
        assert torch.equal(logits(network, image), expected)  # rank 0: nothing is merged
        assert sum(p.numel() for p in network.parameters()) == counted[stitch]
        assert small.model.backbone.stitches == [stitch]
        assert all((expected - other).abs().max() > 1e-3 for other in before)
        before.append(expected)


def test_several_stitches_and_their_files(config, tmp_path):
    model, image = trained(config), torch.randn(1, 3, 64, 64)
    path = save(tmp_path / "some", *extract(config, model.state_dict(), [0, 8]))
    for stitch in (0, 8):
        network = open_stitch(path.with_name("config.py"), path, stitch)
        assert network.backbone.space.ids == (stitch,)
        with model.backbone.use_stitch(stitch):
            assert torch.equal(logits(network, image), logits(model, image))


def test_levels_that_nothing_reads_leave_with_their_norms(config):
    config.model.backbone.eval_levels = (1, 3)
    config.model.decode_head.update(in_channels=[64, 256], in_index=[1, 3])
    config.model.pop("auxiliary_head")
    model, image = trained(config), torch.randn(1, 3, 64, 64)
    small, network = extracted(config, model, [8])
    assert small.model.backbone.out_indices == [1, 3]
    assert set(network.backbone.norms) == {"1", "3"}
    with model.backbone.use_stitch(8):
        assert torch.equal(logits(network, image), logits(model, image))


def test_a_predictor_chooses_by_budget(config):
    model = trained(config)
    model.cfg = config
    predictor = Predictor.of(model)
    image = torch.randint(0, 256, (80, 120, 3), dtype=torch.uint8).numpy()
    labels = {budget: predictor(image, budget) for budget in (0, "100%")}
    assert all(found.shape == (80, 120) for found in labels.values())
    assert (labels[0] != labels["100%"]).any()


def test_an_exported_file_gives_the_same_logits_for_any_batch(config, tmp_path):
    model = with_weights(*extract(config, trained(config).state_dict(), [8]), dict(classes=["a"]))
    size = (64, 80)  # not the training size
    run = open_exported(export(model, tmp_path / "model.pt2", size))
    for batch in (1, 3):
        image = torch.randn(batch, 3, *size)
        expected = model.encode_decode(image, [dict(img_shape=size)]).detach()
        assert (run(image) - expected).abs().max() <= 1e-4


def test_an_anchor_alone_needs_mmsn(config):
    model = trained(config)
    with pytest.raises(UserError, match=r"StitchedSwin norms its levels.* without --plain"):
        plain(*extract(config, model.state_dict(), [0]))

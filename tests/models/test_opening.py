"""Opening a segmentor: everything fits, or one line says what does not."""

import numpy as np
import pytest
import torch
from mmseg.apis import inference_model

from mmsn.errors import MissingFile, UserError
from mmsn.models import build, open_segmentor, read_config, segmentor_macs, usable_device
from mmsn.models.opening import check_weights, dataset_meta, load_weights
from tests.deploy.tiny import tiny_config, tiny_model

META = dict(classes=list("abcde"), palette=[[40 * i] * 3 for i in range(5)])


def with_auxiliary(**options):
    config = tiny_config()
    config.model.decode_head.norm_cfg = dict(type="SyncBN")
    config.model.auxiliary_head = dict(config.model.decode_head, channels=4, **options)
    return config


@pytest.fixture
def files(tmp_path):
    """(config file, checkpoint file, the model that was saved)."""
    model = tiny_model()
    tiny_config().dump(tmp_path / "c.py")
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=META)), tmp_path / "k.pth"
    )
    return tmp_path / "c.py", tmp_path / "k.pth", model


def test_an_opened_model_predicts_what_the_saved_one_did(files):
    config, checkpoint, saved = files
    model = open_segmentor(config, checkpoint)
    assert not model.training
    assert model.dataset_meta == META
    assert model.cfg.model.backbone.rank == 2
    image = np.random.default_rng(0).integers(0, 255, (40, 48, 3)).astype(np.uint8)
    for stitch in (0, 2, 9):
        logits = []
        for each in (saved, model):
            with each.backbone.use_stitch(stitch):
                logits.append(inference_model(each, image).seg_logits.data)
        assert torch.equal(*logits)


def _drop(state):
    del state["decode_head.conv_seg.bias"]


def _add(state):
    state["extra"] = torch.ones(1)


def _reshape(state):
    state["decode_head.conv_seg.bias"] = torch.ones(7)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_drop, r"1 keys are missing \(decode_head.conv_seg.bias\)"),
        (_add, r"1 keys are unexpected \(extra\)"),
        (
            _reshape,
            r"1 keys have another shape \(decode_head.conv_seg.bias \(7,\) instead of \(5,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(files, change, fault):
    config, checkpoint, model = files
    state = dict(model.state_dict())
    change(state)
    torch.save(state, checkpoint)
    with pytest.raises(UserError, match=fault) as caught:
        open_segmentor(config, checkpoint)
    assert "\n" not in str(caught.value)


def test_a_file_that_holds_code_is_refused(files):
    config, checkpoint, _ = files
    torch.save(dict(state_dict=print), checkpoint)
    with pytest.raises(UserError, match=r"it asks for (builtins\.)?print"):
        open_segmentor(config, checkpoint)


def test_auxiliary_heads_may_be_missing_or_others():
    model, plain = build(with_auxiliary()), build(tiny_config())
    whole = {k: v + 1 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    without = {k: v for k, v in whole.items() if not k.startswith("auxiliary_head.")}
    assert len(without) < len(whole)
    load_weights(model, without)
    load_weights(plain, whole)
    load_weights(build(with_auxiliary(num_classes=3)), whole)
    with pytest.raises(UserError, match=r"keys are missing \(auxiliary_head"):
        check_weights(model, without, auxiliary=True)
    name = "auxiliary_head.conv_seg.weight"
    assert not torch.equal(model.state_dict()[name], whole[name])
    load_weights(model, whole)  # where it fits it is loaded
    assert all(torch.equal(model.state_dict()[k], whole[k]) for k in whole)


def test_building_makes_no_weights_on_meta_and_runs_anywhere():
    config = with_auxiliary()
    meta, real = build(config, "meta"), build(config)
    assert {p.device.type for p in meta.parameters()} == {"meta"}
    assert segmentor_macs(meta, (32, 32)) == segmentor_macs(real, (32, 32))
    assert meta.state_dict().keys() == real.state_dict().keys()
    for model in (meta, real):
        assert not model.training
        assert not [m for m in model.modules() if isinstance(m, torch.nn.SyncBatchNorm)]
    with pytest.raises(UserError, match="has no model with a backbone"):
        build(type(config)(dict(a=1)), "meta")


def test_classes_come_from_the_checkpoint_else_from_the_dataset(files):
    config, checkpoint, model = files
    torch.save(model.state_dict(), checkpoint)
    assert open_segmentor(config, checkpoint).dataset_meta == {}
    given = read_config(config)
    given.test_dataloader.dataset.type = "ADE20KDataset"
    found = open_segmentor(given, checkpoint).dataset_meta
    assert found["classes"][:2] == ("wall", "building")
    assert len(found["palette"]) == 150
    given.test_dataloader.dataset.metainfo = META
    assert dataset_meta(given) == META
    given.pop("test_dataloader")
    assert dataset_meta(given) == {}


def test_devices():
    assert usable_device("cpu") == torch.device("cpu")
    assert usable_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("abacus", "cuda:99"):
        with pytest.raises(
            UserError, match=rf"device '{name}' cannot be used here \(.*cpu"
        ) as told:
            usable_device(name)
        assert "\n" not in str(told.value)


def test_configs_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingFile, match=r"no.py' does not exist: give a config file"):
        read_config(tmp_path / "no.py")
    for content, kind in ((b"a = b\n", "NameError"), (b"a = (", "SyntaxError"), (b"\xff", "")):
        (tmp_path / "bad.py").write_bytes(content)
        with pytest.raises(UserError, match=rf"bad.py' cannot be read \({kind}") as caught:
            read_config(tmp_path / "bad.py")
        assert "\n" not in str(caught.value)


def test_a_config_that_imports_a_package_that_is_not_installed(tmp_path):
    file = tmp_path / "config.py"
    file.write_text("custom_imports = dict(imports=['no_such_package.models'])")
    with pytest.raises(UserError) as caught:
        read_config(file)
    assert str(caught.value) == (
        f"config '{file}' cannot be read (ModuleNotFoundError: No module named 'no_such_package'): "
        "install that package, or remove it from custom_imports"
    )

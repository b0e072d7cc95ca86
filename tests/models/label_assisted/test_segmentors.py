"""Losses of teachers and students against NumPy, and what they save."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint
from mmseg.registry import MODELS
from scipy.special import log_softmax, softmax
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import interpolate

from mmsn.errors import UserError
from mmsn.models import segmentor_macs, step_macs, stitched_backbone, training_macs
from mmsn.models.label_assisted.labels import CODE_SCALE, fixed_labels, noised_labels
from mmsn.models.label_assisted.segmentors import recorded_logits, the_only
from mmsn.models.tracing import MacCounter
from tests.models.dense_models import DEPTH_MODEL, SIZE, sample
from tests.tiny import tiny_anchor, tiny_backbone, tiny_head, tiny_segmentor

CLASSES = 5
HEAD = tiny_head(CLASSES) | dict(dropout_ratio=0, norm_cfg=None)
PREPROCESSOR = dict(size=(SIZE, SIZE), seg_pad_val=255)
STITCHED = tiny_segmentor(tiny_backbone((2, 4), (1, 3)), HEAD, **PREPROCESSOR)
# The large anchor alone: what one teacher of all stitches looks like.
ALONE = tiny_segmentor(
    tiny_backbone((2, 4), (1, 3), anchors=[tiny_anchor(24, 4)]), HEAD, **PREPROCESSOR
)
RESNET = dict(
    tiny_segmentor(
        dict(type="ResNetV1c", depth=18, strides=(1, 2, 1, 1), contract_dilation=True),
        HEAD | dict(in_index=3, in_channels=512),
        **PREPROCESSOR,
    ),
    auxiliary_head=HEAD
    | dict(in_index=2, in_channels=256, loss_decode=dict(type="CrossEntropyLoss", loss_weight=0.4)),
)


def build(config):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(ConfigDict(copy.deepcopy(config)))
    if isinstance(model.decode_head.conv_seg, torch.nn.Conv2d):
        model.decode_head.conv_seg.weight.data.mul_(100)  # so that divergences exceed rounding
    return model


def make_teacher(module, **options):
    teacher = build(dict(type="mmsn.LabelAssistedTeacher", module=module, **options))
    for stem in teacher.label_stems:
        torch.nn.init.normal_(stem.weight, std=0.1)
    return teacher


@pytest.fixture
def batch():
    torch.manual_seed(1)
    labels = torch.randint(0, CLASSES, (2, 1, SIZE, SIZE))
    labels[:, :, :4] = 255
    samples = [sample(labels=one) for one in labels]
    images = [torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8) for _ in range(2)]
    return labels, dict(inputs=images, data_samples=samples)


def cross_entropy(logits, labels):
    """Mean over all pixels, ignored ones counted as zero, as mmseg has it by default."""
    logits = interpolate(logits, labels.shape[2:], mode="bilinear").detach().numpy()
    found = log_softmax(logits.astype(float), axis=1)
    labels = labels[:, 0].numpy()
    picked = np.take_along_axis(found, np.where(labels == 255, 0, labels)[:, None], 1)[:, 0]
    return -np.where(labels == 255, 0, picked).sum() / labels.size


def divergence(logits, target, t=4):
    """Channel-wise, at temperature ``t``."""
    p, q = (x.detach().numpy().astype(float).reshape(*x.shape[:2], -1) for x in (target, logits))
    p_log, q_log = log_softmax(p / t, -1), log_softmax(q / t, -1)
    return t**2 * (softmax(p / t, -1) * (p_log - q_log)).sum() / (p.shape[0] * p.shape[1])


def known_classes(labels):
    return labels.where(labels != 255, CLASSES)


def codes_of(teacher, labels, path):
    return noised_labels(known_classes(labels), CLASSES, teacher._generator(path))


@pytest.mark.parametrize("module", [STITCHED, RESNET], ids=["stitched", "resnet"])
def test_a_teacher_loses_on_two_paths_and_where_they_differ(module, batch):
    labels, data = batch
    # In evaluation mode, where batch norm leaves the two passes alone.
    teacher = make_teacher(module).eval()
    inputs = teacher.data_preprocessor(data, True)["inputs"]
    losses = teacher.loss(inputs, data["data_samples"])

    std = np.mean([58.395, 57.12, 57.375])
    codes = [codes_of(teacher, labels, path) for path in (0, 1)]
    assert not torch.isclose(codes[0], codes[1]).any()
    logits = [teacher._forward(torch.cat([inputs, 100 / std * code], dim=1)) for code in codes]
    for path, own in enumerate(logits):
        found = losses[f"path{path}.decode.loss_ce"].item()
        assert found == pytest.approx(cross_entropy(own, labels), rel=1e-4)
        assert (f"path{path}.aux.loss_ce" in losses) == ("auxiliary_head" in module)
    expected = 5 * (divergence(*logits) + divergence(*logits[::-1]))
    assert expected > 1e-4
    assert losses["loss_consistency"].item() == pytest.approx(expected, rel=1e-3)

    total, _ = teacher.parse_losses(losses)
    parts = [v for k, v in losses.items() if "loss" in k]
    assert total.item() == pytest.approx(sum(parts).item())
    total.backward()
    assert all(stem.weight.grad.abs().sum() > 0 for stem in list(teacher.label_stems)[-1:])


@pytest.mark.parametrize("module", [STITCHED, RESNET], ids=["stitched", "resnet"])
def test_a_student_loses_on_labels_and_to_its_teacher(module, batch, tmp_path):
    labels, data = batch
    teacher = make_teacher(ALONE if module is STITCHED else RESNET).eval()
    file = str(tmp_path / "teacher.pth")
    save_checkpoint(dict(state_dict=teacher.state_dict()), file)
    spec = dict(module=ALONE if module is STITCHED else RESNET, checkpoint=file)
    student = build(dict(type="mmsn.LabelAssistedStudent", module=module, teacher=spec)).eval()
    if module is STITCHED:
        stitched_backbone(student).set_stitch(4)
    inputs = student.data_preprocessor(data, True)["inputs"]
    losses = student.loss(inputs, data["data_samples"])

    codes = fixed_labels(known_classes(labels), CLASSES, student._generator(0))
    scale = CODE_SCALE / np.mean([58.395, 57.12, 57.375])
    wanted = teacher._forward(torch.cat([inputs, scale * codes], dim=1))
    own = student._forward(inputs)
    found = losses["decode.loss_ce"].item()
    assert found == pytest.approx(cross_entropy(own, labels), rel=1e-4)
    expected = 3 * divergence(own, wanted)
    assert losses["loss_distillation"].item() == pytest.approx(expected, rel=1e-3)
    student.parse_losses(losses)[0].backward()
    frozen = student.teacher(inputs.device)
    assert not any(p.requires_grad or p.grad is not None for p in frozen.parameters())


def test_weights_temperature_jitter_and_seed_are_those_that_are_given(batch, tmp_path):
    labels, data = batch
    options = dict(temperature=1.0, jitter=0.7, seed=3)
    teacher = make_teacher(ALONE, consistency=2.0, **options).eval()
    inputs = teacher.data_preprocessor(data, True)["inputs"]
    scale = CODE_SCALE / np.mean([58.395, 57.12, 57.375])

    def seen(codes):
        return teacher._forward(torch.cat([inputs, scale * codes], dim=1))

    known = (known_classes(labels), CLASSES)
    first, second = (seen(noised_labels(*known, teacher._generator(i), 0.7)) for i in (0, 1))
    expected = 2 * (divergence(first, second, 1) + divergence(second, first, 1))
    losses = teacher.loss(inputs, data["data_samples"])
    assert losses["loss_consistency"].item() == pytest.approx(expected, rel=1e-3)

    spec = dict(module=ALONE, checkpoint=str(tmp_path / "teacher.pth"))
    save_checkpoint(dict(state_dict=teacher.state_dict()), spec["checkpoint"])
    kind = dict(type="mmsn.LabelAssistedStudent", module=ALONE, teacher=spec)
    student = build(kind | dict(weight=0.5, **options)).eval()
    wanted = seen(fixed_labels(*known, student._generator(0), 0.7))
    expected = 0.5 * divergence(student._forward(inputs), wanted, 1)
    losses = student.loss(inputs, data["data_samples"])
    assert losses["loss_distillation"].item() == pytest.approx(expected, rel=1e-3)
    other = build(kind)
    for one in (student, teacher):
        draws = [torch.rand(4, generator=model._generator(0)) for model in (one, other)]
        assert not torch.isclose(*draws).any()


def test_a_student_is_saved_and_loaded_as_the_plain_segmentor(tmp_path):
    spec = dict(module=ALONE, checkpoint=str(tmp_path / "teacher.pth"))
    save_checkpoint(dict(state_dict=make_teacher(ALONE).state_dict()), spec["checkpoint"])
    student = build(dict(type="mmsn.LabelAssistedStudent", module=STITCHED, teacher=spec))
    student.init_weights()
    plain = build(STITCHED)
    plain.load_state_dict(student.state_dict())  # strict
    image = torch.randn(1, 3, SIZE, SIZE)
    plain.eval(), student.eval()
    assert torch.equal(plain._forward(image), student._forward(image))
    assert len(list(student.parameters())) == len(list(plain.parameters()))
    assert stitched_backbone(student) is student.backbone


def test_a_teacher_starts_from_the_plain_segmentor_and_is_it_without_labels():
    plain, teacher = build(ALONE).eval(), make_teacher(ALONE).eval()
    found = teacher.load_state_dict(plain.state_dict(), strict=False)
    assert found.missing_keys == ["label_stems.0.weight"]
    assert not found.unexpected_keys
    image = torch.randn(1, 3, SIZE, SIZE)
    assert torch.equal(plain._forward(image), teacher._forward(image))


def test_a_student_for_testing_needs_no_teacher():
    spec = dict(module=ALONE, checkpoint="gone.pth")
    student = build(dict(type="mmsn.LabelAssistedStudent", module=STITCHED, teacher=spec))
    student.eval()._forward(torch.randn(1, 3, SIZE, SIZE))
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        student.init_weights()


def test_wrong_teachers_are_refused(tmp_path):
    def student(**spec):
        return build(dict(type="mmsn.LabelAssistedStudent", module=STITCHED, teacher=spec))

    with pytest.raises(UserError, match="checkpoint"):
        student(module=ALONE)
    file = str(tmp_path / "plain.pth")
    save_checkpoint(dict(state_dict=build(ALONE).state_dict()), file)
    with pytest.raises(UserError, match=r"label_stems\.0\.weight"):
        student(module=ALONE, checkpoint=file).init_weights()


# One channel of labels: 2 x 2 patches of 16 x 16 pixels, to 16 and 24 channels.
STEMS = {16: 4 * 256 * 16, 24: 4 * 256 * 24}


def test_a_teachers_step_is_two_passes_with_labels():
    teacher = make_teacher(STITCHED)
    forward = training_macs(build(STITCHED), (SIZE, SIZE))
    space = stitched_backbone(teacher).space
    assert {s.segments[0].anchor for s in space} == {0, 1}
    widths = {s.id: (16, 24)[s.segments[0].anchor] for s in space}
    assert step_macs(teacher, (SIZE, SIZE)) == {
        i: 6 * (macs + STEMS[widths[i]]) for i, macs in forward.items()
    }
    # as the operators of a step are counted while it runs
    data = [sample(labels=torch.zeros(1, SIZE, SIZE, dtype=torch.long))]
    stitched_backbone(teacher).set_stitch(1)
    with MacCounter() as counter, sdpa_kernel(SDPBackend.MATH):  # which the counter knows
        teacher.loss(torch.randn(1, 3, SIZE, SIZE), data)
    resizing = 4 * SIZE**2 * CLASSES  # of logits to labels, which all counts leave out
    assert counter.macs == 2 * (forward[1] + STEMS[24] + resizing)


def test_a_teachers_step_counts_the_stem_of_an_anchor_that_stands_alone():
    """Stitches that all begin in the large anchor leave the small one without an embedding."""
    subset = dict(STITCHED, backbone=dict(STITCHED["backbone"], stitches=[1, 4]))
    forward = training_macs(build(subset), (SIZE, SIZE))
    found = step_macs(make_teacher(subset), (SIZE, SIZE))
    assert found == {i: 6 * (macs + STEMS[24]) for i, macs in forward.items()}


def test_a_students_step_has_the_teachers_forward_pass():
    spec = dict(module=ALONE, checkpoint="not needed.pth")
    student = build(dict(type="mmsn.LabelAssistedStudent", module=STITCHED, teacher=spec))
    forward = training_macs(build(STITCHED), (SIZE, SIZE))
    (of_teacher,) = segmentor_macs(build(ALONE), (SIZE, SIZE)).values()
    assert step_macs(student, (SIZE, SIZE)) == {
        i: 3 * macs + of_teacher + STEMS[24] for i, macs in forward.items()
    }
    other = dict(module=RESNET, checkpoint="not needed.pth")
    student = build(dict(type="mmsn.LabelAssistedStudent", module=STITCHED, teacher=other))
    found = step_macs(student, (SIZE, SIZE))
    with MacCounter() as counter:
        make_teacher(RESNET).eval()._forward(torch.randn(1, 4, SIZE, SIZE))
    assert found == {i: 3 * macs + counter.macs for i, macs in forward.items()}


@pytest.mark.parametrize("kind", ["FCNHead", "Nothing", None])
def test_what_is_no_segmentor_is_refused(kind):
    with pytest.raises(UserError, match="no EncoderDecoder"):
        build(dict(type="mmsn.LabelAssistedTeacher", module=STITCHED | dict(type=kind)))


def test_depth_is_refused(batch):
    teacher = build(dict(type="mmsn.LabelAssistedTeacher", module=DEPTH_MODEL))
    with pytest.raises(UserError, match="gt_sem_seg"):
        teacher.loss(torch.zeros(1, 3, SIZE, SIZE), [sample()])


def test_heads_of_several_maps_are_refused():
    class Head:
        def loss_by_feat(self, logits, samples):
            return {}

    head = Head()
    with recorded_logits(head) as seen:
        head.loss_by_feat((1, 2), None)
    assert "loss_by_feat" not in vars(head)
    with pytest.raises(UserError, match="1 of type tuple"):
        the_only(seen)

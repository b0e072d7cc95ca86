"""Teachers and students of label-assisted distillation (LAD, arXiv:2407.13254), for mmseg.

The teacher has the architecture of the student and sees a label map as a fourth channel, so it is
strong without being large. It trains on two noisings of the same labels and must give the same
logits for both. The student sees the image alone and learns the frozen teacher's logits.

Both are made out of the config of an ordinary segmentor, ``module``: the class that it names, with
another ``loss``. Names in the state dict stay, so an ordinary checkpoint starts either, and a
student's checkpoint is that of the ordinary segmentor.

Left out on purpose: the student's own fourth channel, which the published code fills with zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.model.utils import revert_sync_batchnorm
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.utils import add_prefix
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.complexity import STEP_PASSES, stitched_backbone, training_macs
from mmsn.models.label_assisted.labels import (
    CODE_SCALE,
    fixed_labels,
    noised_labels,
    stacked_labels,
)
from mmsn.models.label_assisted.losses import channel_wise_distillation
from mmsn.models.label_assisted.stem import LabelStems
from mmsn.models.opening import load_weights
from mmsn.models.tracing import MacCounter
from mmsn.registry import MODELS
from mmsn.state_dict import read_checkpoint


@MODELS.register_module(name="LabelAssistedTeacher")
def label_assisted_teacher(
    module: Mapping[str, Any],
    consistency: float = 5.0,
    temperature: float = 4.0,
    jitter: float = 0.03,
    seed: int = 0,
) -> Any:
    """A segmentor that is trained with noised labels as a fourth channel, along two paths.

    Its losses are those of the segmentor for either path, and the consistency of the two. In
    evaluation it sees images alone, unless it is given four channels.

    Args:
        module: config of any mmseg segmentor whose last head gives one map of logits.
        consistency: weight of the channel-wise divergence, in both directions.
        temperature: of that divergence.
        jitter: of the label codes, see ``noised_labels``.
        seed: of the label codes.
    """
    model = _as_kind(module, _Teacher)
    model.consistency, model.temperature = consistency, temperature
    model.jitter, model.noise_seed = jitter, seed
    model.label_stems = LabelStems(model.backbone)
    return model


@MODELS.register_module(name="LabelAssistedStudent")
def label_assisted_student(
    module: Mapping[str, Any],
    teacher: Mapping[str, Any],
    weight: float = 3.0,
    temperature: float = 4.0,
    jitter: float = 0.02,
    seed: int = 0,
) -> Any:
    """A segmentor that is trained to give the logits of a label-assisted teacher.

    Args:
        module: config of any mmseg segmentor whose last head gives one map of logits. With a
            ``StitchedViT``, one teacher serves all stitches.
        teacher: ``module``, the config of the segmentor that was trained as
            ``LabelAssistedTeacher``, and ``checkpoint``, its weights. It is loaded when training
            begins, and is no part of the student or of its checkpoints.
        weight: of the channel-wise divergence from the teacher.
        temperature: of that divergence.
        jitter: of the label codes, see ``fixed_labels``.
        seed: of the jitter.

    Raises:
        UserError: a teacher without ``module`` or ``checkpoint``.
    """
    if set(teacher) != {"module", "checkpoint"}:
        raise UserError(
            f"teacher has {sorted(teacher)}: give it module, the config of a segmentor, and "
            "checkpoint, the weights of that segmentor as trained by mmsn.LabelAssistedTeacher"
        )
    model = _as_kind(module, _Student)
    model.teacher_config, model.weight = teacher, weight
    model.temperature, model.jitter, model.noise_seed = temperature, jitter, seed
    model.teacher_in_list = []
    return model


def _as_kind(config: Mapping[str, Any], mixin: type) -> Any:
    """Build a segmentor of the class that its config names, with the methods of a mixin."""
    options = dict(config)
    name = options.pop("type", None)
    kind = MMSEG_MODELS.get(name) if isinstance(name, str) else name
    if kind is None or not isinstance(kind, type) or not issubclass(kind, EncoderDecoder):
        raise UserError(
            f"module has type {name!r}, which is no EncoderDecoder of mmseg: give the config of a "
            "segmentor, for example type='EncoderDecoder'"
        )
    return type(f"{mixin.__name__.strip('_')}{kind.__name__}", (mixin, kind), {})(**options)


class _LabelAssisted(BaseSegmentor):
    """What teachers and students share: labels as a channel, and the head's logits."""

    noise_seed: int
    jitter: float
    temperature: float

    @property
    def _last_head(self) -> Any:
        head = self.decode_head
        return head[-1] if isinstance(head, nn.ModuleList) else head

    def _generator(self, path: int) -> torch.Generator:
        """Random numbers that follow from seed, iteration, rank and path."""
        iteration = int(MessageHub.get_current_instance().get_info("iter", 0) or 0)
        key = (self.noise_seed * 1_000_003 + iteration) * 4096 + 2 * get_rank() + path
        return torch.Generator().manual_seed(key % 2**63)

    def _with_labels(self, inputs: Tensor, codes: Tensor) -> Tensor:
        """(B, 4, H, W): normalized images, and codes on the same scale."""
        std = getattr(self.data_preprocessor, "std", None)
        scale = CODE_SCALE if std is None else CODE_SCALE / float(std.mean())
        return torch.cat([inputs, (scale * codes).to(inputs)], dim=1)

    def _labels(self, inputs: Tensor, data_samples: Sequence[Any]) -> Tensor:
        height, width = inputs.shape[2:]
        return stacked_labels(data_samples, self._last_head.num_classes, (height, width))


class _Teacher(_LabelAssisted):
    consistency: float
    label_stems: LabelStems

    def loss(self, inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """The segmentor's losses along both paths, and their consistency."""
        labels = self._labels(inputs, data_samples)
        losses: dict[str, Tensor] = {}
        logits: list[Tensor] = []
        for path in (0, 1):
            codes = noised_labels(
                labels, self._last_head.num_classes, self._generator(path), self.jitter
            )
            with recorded_logits(self._last_head) as seen:
                own = super().loss(self._with_labels(inputs, codes), data_samples)
            losses |= add_prefix(own, f"path{path}")
            logits.append(the_only(seen))
        first, second = logits
        losses["loss_consistency"] = self.consistency * (
            channel_wise_distillation(first, second, self.temperature)
            + channel_wise_distillation(second, first, self.temperature)
        )
        return losses

    def training_step_macs(self, image_size: tuple[int, int]) -> dict[int, int]:
        """See ``mmsn.models.step_macs``: two passes with labels, and the gradients of both."""
        space = stitched_backbone(self).space
        # An image goes through the stem of the anchor in which its stitch begins, and so do labels.
        begins = {stitch.id: stitch.segments[0].anchor for stitch in space}
        # Of a subset, anchors in which no stitch begins have no stem, so positions are not anchors.
        anchors = sorted(set(begins.values()))
        stems = {stitch_id: anchors.index(anchor) for stitch_id, anchor in begins.items()}
        return {
            stitch_id: 2
            * STEP_PASSES
            * (macs + self.label_stems.macs(stems[stitch_id], image_size))
            for stitch_id, macs in training_macs(self, image_size).items()
        }


class _Student(_LabelAssisted):
    weight: float
    teacher_config: Mapping[str, Any]
    # In a list, so that it is no submodule: neither saved, trained nor counted.
    teacher_in_list: list[Any]

    def init_weights(self) -> None:
        """As every segmentor, and load the teacher; Runners call it before training."""
        super().init_weights()
        self.teacher(torch.device("cpu"))

    def teacher(self, device: torch.device) -> Any:
        """The frozen teacher on a device, loaded when it is first needed."""
        if not self.teacher_in_list:
            teacher = label_assisted_teacher(self.teacher_config["module"])
            state, _ = read_checkpoint(self.teacher_config["checkpoint"])
            load_weights(revert_sync_batchnorm(teacher), state)
            self.teacher_in_list = [teacher.eval().requires_grad_(False)]
        (teacher,) = self.teacher_in_list
        if next(teacher.parameters()).device != device:
            teacher.to(device)
        return teacher

    def loss(self, inputs: Tensor, data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """The segmentor's losses, and the divergence from the teacher's logits."""
        with recorded_logits(self._last_head) as seen:
            losses = super().loss(inputs, data_samples)
        labels = self._labels(inputs, data_samples)
        codes = fixed_labels(labels, self._last_head.num_classes, self._generator(0), self.jitter)
        with torch.no_grad():
            wanted = self.teacher(inputs.device)._forward(self._with_labels(inputs, codes))
        divergence = channel_wise_distillation(the_only(seen), wanted, self.temperature)
        return losses | {"loss_distillation": self.weight * divergence}

    def training_step_macs(self, image_size: tuple[int, int]) -> dict[int, int]:
        """See ``mmsn.models.step_macs``: an ordinary step, and the teacher's forward pass."""
        with torch.device("meta"):  # its weights are not needed
            teacher = label_assisted_teacher(self.teacher_config["module"]).eval()
        # Counted as it runs, because any segmentor may teach a stitched one.
        with MacCounter() as counter, torch.no_grad():
            teacher._forward(torch.zeros(1, 4, *image_size, device="meta"))
        macs = training_macs(self, image_size)
        return {i: STEP_PASSES * forward + counter.macs for i, forward in macs.items()}


@contextmanager
def recorded_logits(head: Any) -> Iterator[list[Any]]:
    """A list that receives the logits from which a head of mmseg computes its losses.

    Heads call their own ``forward`` as a function, so hooks of modules would see nothing.
    """
    seen: list[Any] = []
    original = head.loss_by_feat

    def loss_by_feat(logits: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(logits)
        return original(logits, *args, **kwargs)

    head.loss_by_feat = loss_by_feat
    try:
        yield seen
    finally:
        del head.loss_by_feat


def the_only(seen: Sequence[Any]) -> Tensor:
    """The one (B, classes, h, w) map of logits that a head gave.

    Raises:
        UserError: it gave none, several, or something else.
    """
    if len(seen) != 1 or not isinstance(seen[0], Tensor):
        raise UserError(
            f"label-assisted distillation compares one map of logits, but the last head gives "
            f"{len(seen)} of type {', '.join(type(one).__name__ for one in seen) or 'none'}: "
            "choose a head such as FCNHead, UPerHead or SETRUPHead"
        )
    return seen[0]

"""Learngene Pool (AAAI 2024, arXiv:2312.05743): instances of one ancestor, of any depth and width.

An instance learns the ancestor's logits, block outputs and attention outputs. The ancestor's
features go through transformation matrices to the width of the instance; ``transposed`` starts
stitching layers from them. Here the matrices are trained with the instance. The released code
leaves them out of its optimizer, so there they stay as they were drawn.

Left out on purpose: the augmentation of DeiT, and stochastic depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.models.anchor_classifier import AnchorClassifier
from mmsn.shrink.distill import Distillation, DistillSettings, fingerprint


@dataclass(frozen=True)
class Instance:
    """Shape of an instance: ``depth`` blocks of ``width`` channels, compared at ``positions``.

    One position is the last block; three are the ends of thirds, block 3, 7 and 11 of an ancestor
    of twelve.
    """

    depth: int
    width: int
    positions: int = 3

    def options(self, ancestor: Anchor, timm_options: Mapping[str, Any]) -> dict[str, Any]:
        """Timm options with which ``Anchor`` builds the instance, heads as wide as the ancestor's.

        Raises:
            UserError: a shape that does not fit the ancestor.
        """
        head_width = ancestor.vit.blocks[0].attn.head_dim
        if self.width < 1 or self.width % head_width:
            raise UserError(
                f"instance width {self.width} is not a multiple of the ancestor's head width "
                f"{head_width}"
            )
        if self.depth < 1 or not 1 <= self.positions <= min(self.depth, ancestor.depth):
            raise UserError(
                f"instance of {self.depth} blocks, compared at {self.positions} positions: give "
                f"at least one block, and 1 to {min(max(self.depth, 1), ancestor.depth)} positions"
            )
        heads = self.width // head_width
        return {**timm_options, "depth": self.depth, "embed_dim": self.width, "num_heads": heads}

    def taps(self, depth: int) -> tuple[int, ...]:
        """The blocks of a network of this depth after which features are compared."""
        return tuple((i + 1) * depth // self.positions - 1 for i in range(self.positions))


@dataclass(frozen=True)
class PoolSettings(DistillSettings):
    """How long and how fast instances learn, by default as published.

    ``alpha`` is the share of the cross-entropy with labels; 0 needs none. Beside it stand the
    three losses of distillation, of equal weight. ``linear_maps`` has no meaning here.
    """

    batch_size: int = 256
    lr: float = 5e-5
    weight_decay: float = 0.05
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.alpha <= 1:
            raise UserError(f"alpha {self.alpha} must lie between 0 and 1")


class TransformationMatrices(nn.Module):
    """Maps from the ancestor's width to the instance's, for block and for attention outputs.

    Each position has its own; at equal widths there is nothing to map.
    """

    def __init__(self, ancestor_width: int, width: int, positions: int) -> None:
        super().__init__()
        self.width = width
        equal = ancestor_width == width
        self.blocks, self.attention = (
            nn.ModuleList(
                nn.Identity() if equal else nn.Linear(ancestor_width, width)
                for _ in range(positions)
            )
            for _ in range(2)
        )


def ancestor_as_instance(
    ancestor: Anchor, classifier: AnchorClassifier
) -> tuple[dict[str, Tensor], TransformationMatrices]:
    """Weights in timm's names and (no) matrices of the instance that has the ancestor's shape.

    The losses of that instance are smallest where it gives what the ancestor gives, so there is
    nothing to distill.
    """
    weights = ancestor.vit.state_dict() | classifier.state_dict()
    return weights, TransformationMatrices(ancestor.dim, ancestor.dim, 1)


class Outputs(NamedTuple):
    """Of one network: (B, classes) logits, and (B, N, C) tokens at each position."""

    logits: Tensor
    blocks: list[Tensor]
    attention: list[Tensor]


def outputs(
    anchor: Anchor, classifier: AnchorClassifier, images: Tensor, taps: Sequence[int]
) -> Outputs:
    """Run (B, 3, H, W) images; ``attention`` is what the attention of a block adds, unscaled."""
    attention: list[Tensor] = []
    hooks = [
        anchor.vit.blocks[tap].attn.register_forward_hook(
            lambda module, args, output: attention.append(output)
        )
        for tap in taps
    ]
    try:
        tokens, grid = anchor.embed(images)
        blocks, start = [], 0
        for tap in taps:
            tokens = anchor.run(tokens, start, tap + 1, grid)
            blocks.append(tokens)
            start = tap + 1
        tokens = anchor.run(tokens, start, anchor.depth, grid)
    finally:
        for hook in hooks:
            hook.remove()
    return Outputs(classifier(tokens), blocks, attention)


def losses(
    own: Outputs,
    ancestor: Outputs,
    matrices: TransformationMatrices,
    alpha: float,
    labels: Tensor | None = None,
) -> dict[str, Tensor]:
    """The weighted terms, whose sum is the loss of Learngene Pool.

    Args:
        own: of the instance.
        ancestor: its features are mapped, so they keep their gradient with respect to the maps.
        matrices: as many as there are positions.
        alpha: share of the cross-entropy.
        labels: (B,) classes; needed where ``alpha`` is not 0.

    Raises:
        UserError: labels are missing.
    """
    if alpha and labels is None:
        raise UserError(f"alpha {alpha} needs labels: give labeled images, or alpha=0")
    log_p = own.logits.float().log_softmax(-1)
    # The mean over images and classes, as the released code has it.
    terms = {"logits": -(ancestor.logits.float().softmax(-1) * log_p).mean()}
    for name, maps in (("blocks", matrices.blocks), ("attention", matrices.attention)):
        pairs = zip(maps, getattr(ancestor, name), getattr(own, name), strict=True)
        terms[name] = sum(
            (
                F.mse_loss(mine.float(), to_width(theirs).float())
                for to_width, theirs, mine in pairs
            ),
            start=own.logits.new_zeros(()),
        )
    terms = {name: (1 - alpha) * term for name, term in terms.items()}
    if labels is not None:
        terms["labels"] = alpha * F.nll_loss(log_p, labels)
    return terms


class InstanceDistillation(Distillation):
    """An instance in training.

    Modifications of ``Distillation``: the losses of Learngene Pool, in which the instance's
    classifier and its transformation matrices are trained, too. Images may come with labels, as
    pairs. Nothing is calibrated.

    Args:
        ancestor: frozen, with ``classifier``.
        classifier: of the ancestor.
        shape: of the instance.
        settings: see ``PoolSettings``.
        img_size: (height, width) for which the instance stores position embeddings.
        timm_options: with which the ancestor was built.
        identity: whatever else must be equal for a saved state to be continued.
        device: of both networks.
    """

    settings: PoolSettings

    def __init__(
        self,
        ancestor: Anchor,
        classifier: AnchorClassifier,
        shape: Instance,
        settings: PoolSettings,
        img_size: tuple[int, int],
        timm_options: Mapping[str, Any],
        identity: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device, self.settings, self.step = torch.device(device), settings, 0
        self.parent = ancestor.to(self.device).eval().requires_grad_(False)
        self.classifier = classifier.to(self.device).eval().requires_grad_(False)
        self.shape, self.options = shape, shape.options(ancestor, timm_options)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)  # what is drawn here must not depend on what ran
            child = Anchor(ancestor.model_name, img_size, **self.options)
            # ``maps``, because ``save`` and ``resume`` of ``Distillation`` call it that.
            self.maps = nn.ModuleDict(  # type: ignore[assignment]
                dict(
                    classifier=AnchorClassifier(child, classifier.head.out_features),
                    matrices=TransformationMatrices(ancestor.dim, child.dim, shape.positions),
                )
            ).to(self.device)
        self.child = child.to(self.device).eval()
        self.optimizer = torch.optim.AdamW(
            [*self.child.parameters(), *self.maps.parameters()],
            lr=settings.lr,
            weight_decay=settings.weight_decay,
        )
        self.identity = dict(
            shape=asdict(shape),
            settings=asdict(settings),
            parent=fingerprint(ancestor),
            **(identity or {}),
        )

    @property
    def matrices(self) -> TransformationMatrices:
        """The transformation matrices, as trained so far."""
        return self.maps["matrices"]  # type: ignore[index]

    def terms(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """The losses of (B, 3, H, W) images with (B,) labels, on the device; see ``losses``."""
        with torch.no_grad():
            taps = self.shape.taps(self.parent.depth)
            theirs = outputs(self.parent, self.classifier, images, taps)
        own_classifier: Any = self.maps["classifier"]  # type: ignore[index]
        own = outputs(self.child, own_classifier, images, self.shape.taps(self.child.depth))
        return losses(own, theirs, self.matrices, self.settings.alpha, labels)

    def train_step(self, batch: Tensor | Sequence[Tensor]) -> float:
        """One update from (B, 3, H, W) images, or from images and labels; the loss before it."""
        images, *rest = [batch] if isinstance(batch, Tensor) else batch
        labels = rest[0].to(self.device) if rest else None
        with self._autocast():
            terms = self.terms(images.to(self.device), labels)
        return self.update(sum(terms.values(), start=images.new_zeros(()).to(self.device)))

    def state(self) -> dict[str, Tensor]:
        """Weights of the instance with its classifier, in timm's names."""
        own_classifier: Any = self.maps["classifier"]  # type: ignore[index]
        return self.child.vit.state_dict() | own_classifier.state_dict()

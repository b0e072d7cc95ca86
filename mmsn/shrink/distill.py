"""Distilling a child anchor from its parent, unit by unit.

The child runs on its own tokens. After each of its blocks, its tokens go through a linear map and
are compared with the parent's after the same unit; the last unit's tokens are the final ones.
A unit's loss is the share of the parent's variance that stays unexplained, so units have equal
weight. Labels and classification heads are not used. ``unexplained`` measures the result.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from mmsn.errors import UserError
from mmsn.models.anchor import Anchor
from mmsn.shrink.child import ChildPlan, unit_outputs
from mmsn.shrink.images import UnlabeledImages
from mmsn.shrink.unexplained import accumulators, energy_of
from mmsn.state_dict import read_pickle, write_pickle

WARMUP_SHARE = 0.05


@dataclass(frozen=True)
class DistillSettings:
    """How long and how fast the child learns.

    Tokens of equal width are compared as they are, unless ``linear_maps`` asks for the trained
    map that other widths need. ``bf16`` runs both networks under autocast; losses and weights stay
    float32.
    """

    steps: int
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.0
    seed: int = 0
    bf16: bool = False
    linear_maps: bool = False

    def __post_init__(self) -> None:
        for name, low in (("steps", 0), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise UserError(f"{name} {getattr(self, name)} must be at least {low}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UserError(f"lr {self.lr} must be a positive number")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UserError(f"weight_decay {self.weight_decay} must be 0 or more")

    def lr_at(self, step: int) -> float:
        """Linear warm-up over the first twentieth, then half a cosine down to zero."""
        warmup = max(1, round(WARMUP_SHARE * self.steps))
        if step < warmup:
            return self.lr * (step + 1) / warmup
        done = (step - warmup) / max(1, self.steps - warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


class UnitMaps(nn.Module):
    """Per unit, the map from the child's tokens to the parent's, and the parent's variance."""

    def __init__(self, plan: ChildPlan, linear: bool) -> None:
        super().__init__()
        self.plan = plan
        self.maps = nn.ModuleList(
            nn.Linear(plan.width, plan.parent_width)
            if linear or plan.is_narrower
            else nn.Identity()
            for _ in plan.blocks
        )
        self.variance: Tensor
        self.register_buffer("variance", torch.ones(plan.depth))

    @torch.no_grad()
    def fit(self, parent: Anchor, child: Anchor, batches: Iterable[Tensor]) -> None:
        """Take the parent's variances, and solve the maps by least squares, from some images."""
        # One pass over the images gives both: a Gram matrix holds the target's variance, too.
        grams = accumulators(self.plan)
        for batch in batches:
            own = unit_outputs(child, batch, 1)[1:]
            target = unit_outputs(parent, batch, self.plan.unit)[1:]
            for gram, x, y in zip(grams, own, target, strict=True):
                gram.update(x, y)
        for index, gram in enumerate(grams):
            self.variance[index] = energy_of(gram) / (gram.count * gram.dim_y)
            unit_map = self.maps[index]
            if isinstance(unit_map, nn.Linear):
                solution = gram.solve()
                unit_map.weight.copy_(solution.weight)
                unit_map.bias.copy_(solution.bias)

    def losses(self, child: list[Tensor], parent: list[Tensor]) -> Tensor:
        """(units,) unexplained shares of a batch, in float32."""
        errors = [
            (unit_map(own).float() - target.float()).square().mean()
            for unit_map, own, target in zip(self.maps, child, parent, strict=True)
        ]
        return torch.stack(errors) / self.variance


class Distillation:
    """A child in training: the pieces, one step, and a state that continues exactly.

    Args:
        parent: frozen, in evaluation mode; never changed.
        child: trained in place, in evaluation mode as well: dropout and stochastic depth would
            make a continued run differ from an undisturbed one.
        calibration: (B, 3, H, W) images from which scales and first maps are taken.
        identity: whatever else must be equal for a saved state to be continued.
    """

    def __init__(
        self,
        parent: Anchor,
        child: Anchor,
        plan: ChildPlan,
        settings: DistillSettings,
        calibration: Tensor,
        identity: Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.parent, self.child = parent.to(self.device), child.to(self.device).eval()
        self.plan, self.settings, self.step = plan, settings, 0
        self.maps = UnitMaps(plan, settings.linear_maps).to(self.device)
        batches = calibration.to(self.device).split(settings.batch_size)
        self.maps.fit(self.parent, self.child, batches)
        self.optimizer = torch.optim.AdamW(
            [*child.parameters(), *self.maps.parameters()],
            lr=settings.lr,
            betas=(0.9, 0.98),
            weight_decay=settings.weight_decay,
        )
        self.identity = dict(
            plan=asdict(plan) | {"blocks": list(plan.blocks)},
            settings=asdict(settings),
            parent=fingerprint(parent),
            **(identity or {}),
        )

    def run(
        self,
        images: UnlabeledImages,
        state_file: Path | None = None,
        save_every: int = 200,
        workers: int = 0,
        on_step: Callable[[int, float], None] = lambda step, loss: None,
    ) -> None:
        """Train from the present step to the last.

        Args:
            images: an endless sequence, so with a seed.
            state_file: written every ``save_every`` steps, whole or not at all.
            on_step: called after each step with its count from 1 and the mean unit loss.
        """
        size = self.settings.batch_size
        # Image numbers follow from the step, so a resumed run continues with the next image.
        numbers = range(self.step * size, self.settings.steps * size)
        for batch in DataLoader(Subset(images, numbers), size, num_workers=workers):
            loss = self.train_step(batch)
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss of step {self.step} is {loss}: lower lr (now {self.settings.lr})"
                )
            if state_file is not None and self.step % save_every == 0:
                self.save(state_file)
            on_step(self.step, loss)

    def train_step(self, batch: Tensor) -> float:
        """One update from (B, 3, H, W) images; the mean unit loss before it."""
        batch = batch.to(self.device)
        with self._autocast():
            with torch.no_grad():
                target = unit_outputs(self.parent, batch, self.plan.unit)[1:]
            losses = self.maps.losses(unit_outputs(self.child, batch, 1)[1:], target)
        return self.update(losses.mean())

    def update(self, loss: Tensor) -> float:
        """Take one step of the optimizer on a scalar loss; returns its value before the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.lr_at(self.step)
        # Not scaled: bfloat16 has the range of float32.
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], 1.0)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        state = dict(
            identity=self.identity,
            step=self.step,
            child=self.child.state_dict(),
            maps=self.maps.state_dict(),
            optimizer=self.optimizer.state_dict(),
        )
        write_pickle(path, state)

    def resume(self, path: Path) -> None:
        """Continue from a file that ``save`` wrote.

        Raises:
            UserError: it is damaged, or belongs to a distillation with other settings, of which the
                first is named.
        """
        # Compared one by one, so that the message names what changed.
        state = read_pickle(path, self.device)
        for name, value in self.identity.items():
            if state["identity"].get(name) != value:
                raise UserError(
                    f"{str(path)!r} was saved with another {name} "
                    f"({_difference(state['identity'].get(name), value)}): repeat the command that "
                    "began it, or delete the file to begin again"
                )
        self.step = state["step"]
        self.child.load_state_dict(state["child"])
        self.maps.load_state_dict(state["maps"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16)


def fingerprint(anchor: Anchor) -> str:
    """Sixteen hexadecimal digits that change with any weight."""
    digest = hashlib.sha256()
    for name, value in anchor.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        pairs = ((k, before.get(k), now.get(k)) for k in {**before, **now})
        return ", ".join(f"{k} {old} then, {new} now" for k, old, new in pairs if old != new)
    return f"{before} then, {now} now"

"""Hook: stop, or skip a step, when a loss or a gradient is NaN or infinite.

One NaN in one image makes every weight NaN in the same step, and training would continue anyway.
This hook skips that step. Left out on purpose: infinite gradients under a loss scaler, which skips
such steps by itself and lowers its scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from mmengine.dist import all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mmsn.engine.accumulation import is_accumulating, optim_wrappers
from mmsn.errors import UserError
from mmsn.models import StitchedBackbone, unwrap
from mmsn.registry import HOOKS


class _Pass(NamedTuple):
    """One forward pass since the last optimizer step."""

    stitches: tuple[int, ...]
    losses: dict[str, Tensor]
    images: list[str]

    def bad_losses(self) -> list[str]:
        return [name for name, loss in self.losses.items() if not torch.isfinite(loss).all()]


@HOOKS.register_module()
class FiniteHook(Hook):
    """Look at losses and gradients before each optimizer step.

    The message names iteration, stitches, the loss or the first weight, and the images since the
    last step. The weights do not change, so they can still be saved.

    Args:
        action: "stop" raises ``UserError``; "skip" leaves the step out, puts the statistics of
            batch norm back and warns. Ranks agree on it, by one number per step.
        max_skips: steps in a row to skip before it stops after all.
    """

    def __init__(self, action: Literal["stop", "skip"] = "stop", max_skips: int = 10) -> None:
        if action not in ("stop", "skip"):
            raise UserError(f"action {action!r} is unknown: use 'stop' or 'skip'")
        if max_skips < 1:
            raise UserError(f"max_skips {max_skips} is not allowed: give 1 or more")
        self.action, self.max_skips = action, max_skips
        self._passes: list[_Pass] = []
        self._skipped_in_a_row = 0
        self._handles: list[Any] = []

    def before_train(self, runner: Any) -> None:
        """Attach to the model and to its optimizers."""
        self._runner, self._model = runner, unwrap(runner.model)
        found = [m for m in self._model.modules() if isinstance(m, StitchedBackbone)]
        self._backbone = found[0] if len(found) == 1 else None
        self._names = {p: name for name, p in self._model.named_parameters()}
        self._detach()  # a second training with this runner
        self._handles.append(self._model.register_forward_hook(self._note, with_kwargs=True))
        for wrapper in optim_wrappers(runner.optim_wrapper):
            self._handles.append(wrapper.optimizer.register_step_pre_hook(self._before_step))
        self._statistics = _Statistics(self._model) if self.action == "skip" else None

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Check passes that no step has used yet, or that a loss scaler skipped.

        After a normal step there are none, and this costs nothing.
        """
        waits = is_accumulating(runner.optim_wrapper)
        # While gradients accumulate, skipping waits for the step that they are for.
        if (self.action == "stop" or not waits) and any(p.bad_losses() for p in self._passes):
            self._react(None)
        if not waits:
            self._passes.clear()
            if self._statistics is not None:
                self._statistics.keep()

    def after_train(self, runner: Any) -> None:
        """Detach from the model."""
        self._detach()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._passes.clear()

    def _note(self, module: nn.Module, args: Any, kwargs: dict, output: Any) -> None:
        if not module.training or not isinstance(output, Mapping):  # predictions, not losses
            return
        # Only for the message: paths of the images that this pass has seen.
        samples = kwargs.get("data_samples") or (args[1] if len(args) > 1 else ())
        self._passes.append(
            _Pass(
                tuple(s.id for s in self._backbone.training_stitches) if self._backbone else (),
                dict(_detached(output)),
                [str(getattr(sample, "img_path", "?")) for sample in samples],
            )
        )

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        parameters = [
            p for group in optimizer.param_groups for p in group["params"] if p.grad is not None
        ]
        if not parameters:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        device = grads[0].device
        # A norm is finite where all its parts are. One tensor, so that the device waits only once.
        norms = [norm.float().to(device) for norm in torch._foreach_norm(grads)]
        losses = [loss.float().sum().to(device) for p in self._passes for loss in p.losses.values()]
        finite = torch.isfinite(torch.stack(norms + losses)).tolist()
        bad: list[torch.nn.Parameter] = []
        if not all(finite):
            # The norm of huge gradients overflows, though every one of them is finite.
            bad = [p for p, g in zip(parameters, grads, strict=True) if not torch.isfinite(g).all()]
        is_bad = bool(bad) or not all(finite[len(norms) :])
        if self.action == "skip" and get_world_size() > 1:
            # Gradients are the same on all ranks, losses are not, and all must make the same steps.
            answer = torch.tensor(is_bad, dtype=torch.uint8, device=device)
            all_reduce(answer, "max")
            is_bad = bool(answer)
        if not is_bad:
            self._skipped_in_a_row = 0
            self._passes.clear()
            return
        self._react(self._names.get(bad[0], "?") if bad else None)
        for parameter in parameters:
            parameter.grad = None  # the optimizer skips parameters without a gradient

    def _react(self, weight: str | None) -> None:
        line = self._describe(weight)
        self._skipped_in_a_row += 1
        if self.action == "stop" or self._skipped_in_a_row > self.max_skips:
            self._detach()
            last = self._runner.message_hub.runtime_info.get("last_ckpt")
            whole = f"resume from {last!r}" if last else "no checkpoint is saved yet"
            raise UserError(
                f"{line}; the weights are as before this step ({whole}): check these images and "
                "the learning rate, or set action='skip' of mmsn.FiniteHook"
            )
        self._runner.logger.warning(f"{line}; this step is skipped")
        self._passes.clear()
        if self._statistics is not None:
            self._statistics.put_back()

    def _describe(self, weight: str | None) -> str:
        """The passes with a loss that is not finite, or else all of them."""
        bad = [made for made in self._passes if made.bad_losses()] or self._passes
        losses = sorted({name for made in bad for name in made.bad_losses()})
        what = "a loss of another rank" if weight is None else f"the gradient of {weight}"
        if losses:
            what = f"loss {', '.join(losses)}"
        stitches = sorted({stitch for made in bad for stitch in made.stitches})
        images = [image for made in bad for image in made.images]
        return (
            f"iteration {self._runner.iter + 1}, rank {get_rank()}: {what} is NaN or infinite, "
            f"stitches {', '.join(map(str, stitches)) or 'unknown'}, "
            f"images {', '.join(images) or 'unknown'}"
        )


class _Statistics:
    """Running statistics of normalization layers, to restore after a pass that corrupted them."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [
            buffer
            for module in model.modules()
            if isinstance(module, _NormBase)
            for buffer in module.buffers(recurse=False)
        ]
        self.keep()

    def keep(self) -> None:
        """Store the present statistics."""
        self._kept = [buffer.clone() for buffer in self._buffers]

    def put_back(self) -> None:
        """Restore what ``keep`` stored."""
        for buffer, kept in zip(self._buffers, self._kept, strict=True):
            buffer.copy_(kept)


def _detached(losses: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The entries that mmengine adds up; the others are for the log, such as accuracies."""
    for name, value in losses.items():
        if "loss" not in name:
            continue
        if isinstance(value, Tensor):
            yield name, value.detach()
        elif isinstance(value, list | tuple):
            for number, part in enumerate(value):
                yield f"{name}.{number}", part.detach()

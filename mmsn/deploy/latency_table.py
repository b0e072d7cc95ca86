"""How long each stitch takes on one device, as a file that is refused on another.

What is timed, and how, is in ``mmsn.evaluation.latency``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from mmsn.errors import UserError
from mmsn.evaluation.json_file import JsonFile
from mmsn.evaluation.latency import latency_setting, measure_latency
from mmsn.evaluation.report import Latency, LatencySetting
from mmsn.models import segmentor_macs, unwrap


class TimedStitch(BaseModel):
    """One stitch; ``macs`` are those of the whole segmentor for one image."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: NonNegativeInt
    macs: PositiveInt
    latency: Latency


class LatencyTable(JsonFile):
    """Latencies of a model's stitches for images of (height, width) ``image_size``."""

    what = "latency table"

    schema_version: Literal[1] = 1
    title: str
    torch_version: str
    image_size: tuple[PositiveInt, PositiveInt]
    setting: LatencySetting
    stitches: list[TimedStitch]

    @classmethod
    def measure(
        cls,
        model: Any,
        ids: Iterable[int],
        image_size: tuple[int, int],
        title: str = "",
        batch_size: int = 1,
        repeats: int = 20,
        on_pass: Callable[[], None] = lambda: None,
    ) -> LatencyTable:
        """Time stitches on the model's device; see ``mmsn.evaluation.latency``."""
        macs = segmentor_macs(model, image_size)
        latencies, setting = measure_latency(
            model, ids, image_size, batch_size, repeats, on_pass=on_pass
        )
        return cls(
            title=title,
            torch_version=torch.__version__,
            image_size=image_size,
            setting=setting,
            stitches=[TimedStitch(id=i, macs=macs[i], latency=t) for i, t in latencies.items()],
        )

    def check(
        self,
        model: Any,
        image_size: tuple[int, int],
        batch_size: int = 1,
        force: bool = False,
        device: torch.device | None = None,
    ) -> None:
        """Is this a table of this model, measured as it runs now?

        Args:
            model: the segmentor; call this inside ``torch.autocast`` if it will run there.
            image_size: (height, width) of the images to come.
            batch_size: of the images to come.
            force: accept another setting, but not another model.
            device: where the model will run, by default where it is.

        Raises:
            UserError: what is different.
        """
        macs = segmentor_macs(model, self.image_size)
        wrong = [s for s in self.stitches if macs.get(s.id) != s.macs]
        if wrong:
            raise UserError(
                f"latency table {self.title!r} is of another model: its stitch {wrong[0].id} takes "
                f"{wrong[0].macs / 1e9:.6g} GFLOPs, here {macs.get(wrong[0].id, 0) / 1e9:.6g}; "
                "measure one of this model"
            )
        if force:
            return
        parameter = next(unwrap(model).parameters())
        device = device or parameter.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else parameter.dtype
        setting = latency_setting(device, dtype, batch_size)
        there = {
            "torch": self.torch_version,
            "image size": self.image_size,
            **self.setting.model_dump(),
        }
        here = {"torch": torch.__version__, "image size": image_size, **setting.model_dump()}
        faults = [f"{k} {there[k]} there, {here[k]} here" for k in here if there[k] != here[k]]
        if faults:
            raise UserError(
                f"latency table {self.title!r} was measured with another setting "
                f"({'; '.join(faults)}): measure one here, or force it"
            )

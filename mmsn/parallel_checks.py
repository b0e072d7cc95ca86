"""Mistakes in how a config distributes a training of stitches over processes.

A step runs some of the stitches, so most parameters get no gradient, and others do in the next
step. ``DistributedDataParallel`` must be told to look for them. Left out on purpose: differences
between ranks, which only a run can see; see ``mmsn.engine.hooks.rank_check_hook``.
"""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.config import Config

from mmsn.segmentor_config import type_name

SHARDING = ("MMFullyShardedDataParallel", "FSDPStrategy")


def sharding_errors(config: Config) -> Iterator[str]:
    """What mmengine shards by FSDP, which no hook here supports."""
    for key in ("model_wrapper_cfg", "strategy"):
        if type_name(config.get(key)) in SHARDING:
            yield (
                f"{key}.type {config[key]['type']!r} is not supported: it flattens parameters, "
                "which initialization, checks and checkpoints of stitches need whole; use "
                "'MMDistributedDataParallel' with find_unused_parameters=True"
            )


def unused_parameters_warnings(config: Config) -> Iterator[str]:
    """A data-parallel training that fails at the second stitch it draws."""
    if config.get("launcher") in (None, "none"):
        return
    wrapper = config.get("model_wrapper_cfg")
    if wrapper is not None and type_name(wrapper) != "MMDistributedDataParallel":
        return
    if not (config if wrapper is None else wrapper).get("find_unused_parameters", False):
        where = "" if wrapper is None else "model_wrapper_cfg."
        yield (
            f"{where}find_unused_parameters is not True, so training fails when an iteration draws "
            f"another stitch than the one before: set {where}find_unused_parameters=True"
        )

"""What tests look at in a Runner, before and after it has run, and damage to its checkpoints."""

from pathlib import Path

from mmsn.evaluation import ParetoReport
from mmsn.models import stitched_backbone


def log_of(runner):
    return next(Path(runner.log_dir).glob("*.log")).read_text()


def damage(path, how="truncated"):
    """Damage a file as a kill, a disk or a user may."""
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "zeros":
        path.write_bytes(bytes(len(data)))
    elif how == "one bit":
        middle = bytearray(data)
        middle[len(data) // 2] ^= 4
        path.write_bytes(middle)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "missing":
        path.unlink()
    else:
        raise ValueError(how)


def layer_weights(runner):
    layers = stitched_backbone(runner.model).stitching_layers
    return {name: layer.weight.clone() for name, layer in layers.items()}


def hooks(**sampling):
    """Config of initialization, and of sampling with these arguments."""
    return [
        dict(type="mmsn.StitchInitHook", num_images=6),
        dict(type="mmsn.FLOPsConstrainedSamplingHook", **sampling),
    ]


def groups_of(runner):
    return next(hook.groups for hook in runner.hooks if hasattr(hook, "groups"))


def watch(runner):
    """A list that receives the stitches of each training pass."""
    seen = []
    stitched_backbone(runner.model).register_forward_pre_hook(
        lambda module, _: (
            seen.append(tuple(stitch.id for stitch in module.training_stitches))
            if module.training
            else None
        )
    )
    return seen


def metrics_of(path):
    """The metrics of every stitch in a report, by id."""
    return {r.id: r.metrics for r in ParetoReport.load(path).stitches}

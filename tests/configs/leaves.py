"""The leaves of ``configs``, and a shrunken copy of each that a test can train."""

from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope

from tests.conftest import ROOT

MODELS_OF = {
    "deit3-s-l": ["deit3_small", "deit3_large"],
    "deit3-b-l": ["deit3_base", "deit3_large"],
    "deit-ti-s": ["deit_tiny", "deit_small"],
}
LEAVES = sorted(p for p in (ROOT / "configs").rglob("*.py") if "_base_" not in p.parts)
# Their segmentor is in ``model.module``.
LABEL_ASSISTED = [p for p in LEAVES if p.parent.name == "label_assisted" or "_label-" in p.stem]
SIZE = 64  # of a shrunken crop


def by_stem(path):
    return path.stem


def segmentor_of(config):
    """The config of the segmentor, which label-assisted distillation wraps."""
    return config.model.get("module", config.model)


def shrink(config):
    """The same architecture, narrow: widths of 32 for the last anchor and 16 for the others."""
    backbone, model = config.model.backbone, config.model
    for anchor in backbone.anchors:
        anchor.pretrained = False
        anchor.checkpoint = None
        anchor.update(embed_dim=16, num_heads=2)
    backbone.anchors[-1].embed_dim = 32
    backbone.rank = min(backbone.get("rank", 16), 4)
    backbone.img_size = SIZE
    model.data_preprocessor.size = (SIZE, SIZE)
    if backbone.type == "mmsn.StitchedSwin":
        for anchor in backbone.anchors:
            anchor.update(num_heads=(1, 2, 2, 2), depths=(2, 2, 2, 2))
        model.decode_head.update(in_channels=[32, 64, 128, 256], channels=8)
        model.auxiliary_head.update(in_channels=128, channels=8)
        return config
    if "neck" in model:
        model.neck.update(in_channels=[32] * len(model.neck.in_channels), out_channels=8)
    heads = [model.decode_head, *as_list(model.get("auxiliary_head"))]
    heads += as_list(model.get("depth_head"))
    for head in heads:
        reads_neck = "neck" in model
        width = 8 if reads_neck else 32
        many = isinstance(head.in_index, (list, tuple)) if "in_index" in head else False
        head.in_channels = [width] * len(head.in_index) if many else width
        head.channels = width if head.get("num_convs") == 0 else 8
        if "embed_dims" in head:
            head.embed_dims = 32
        if "post_process_channels" in head:
            head.post_process_channels = [4, 8, 8, 8]
    return config


def as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def build(config):
    init_default_scope(config.default_scope)
    return revert_sync_batchnorm(MODELS.build(config.model))

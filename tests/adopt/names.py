"""mmseg's configs by name, and anchors for them."""

from mmsn.adopt import find_config
from mmsn.models import read_config
from tests.tiny import tiny_anchor

UPERNET = "upernet_r50_4xb4-160k_ade20k-512x512.py"
SETR_PUP = "setr_vit-l_pup_8xb2-160k_ade20k-512x512.py"
SEGMENTER = "segmenter_vit-s_mask_8xb1-160k_ade20k-512x512.py"
BEIT = "beit-base_upernet_8xb2-160k_ade20k-640x640.py"
DEEPLAB = "deeplabv3plus_r50-d8_4xb4-160k_ade20k-512x512.py"


def tiny_anchors():
    return [tiny_anchor(32, 4), tiny_anchor(64, 8)]


def mmseg_config(name):
    return read_config(find_config(name))


def published(*names):
    return [dict(model_name=name, pretrained=True) for name in names]


DEIT3 = published(
    "deit3_small_patch16_224.fb_in22k_ft_in1k", "deit3_large_patch16_224.fb_in22k_ft_in1k"
)


def changed(adoption):
    return {change.key: change.what for change in adoption.changes}

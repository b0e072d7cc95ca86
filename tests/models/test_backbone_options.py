"""Options that a base's backbone leaves behind."""

import pytest

from mmsn.errors import UserError
from mmsn.models.backbone_options import refuse_foreign_options, refuse_unknown_options


def test_unknown_options_are_named_in_order():
    refuse_unknown_options("StitchedViT", [])
    with pytest.raises(
        UserError, match=r"StitchedViT does not take depth, norm_cfg: .*_delete_=True"
    ):
        refuse_unknown_options("StitchedViT", {"norm_cfg", "depth"})


def test_weights_for_the_whole_backbone_are_refused():
    refuse_foreign_options("StitchedSwin", (), None)
    with pytest.raises(UserError, match=r"pretrained='x\.pth' names weights of another backbone"):
        refuse_foreign_options("StitchedSwin", (), "x.pth")
    with pytest.raises(UserError, match="StitchedSwin does not take depth"):
        refuse_foreign_options("StitchedSwin", ("depth",), None)

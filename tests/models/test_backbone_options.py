"""Options that a base's backbone leaves behind."""

import pytest

from mmsn.errors import UserError
from mmsn.models.backbone_options import refuse_unknown_options


def test_unknown_options_are_named_in_order():
    refuse_unknown_options([])
    with pytest.raises(UserError, match=r"does not take depth, norm_cfg: .*_delete_=True"):
        refuse_unknown_options({"norm_cfg", "depth"})

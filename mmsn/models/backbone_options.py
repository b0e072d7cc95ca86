"""Options that a backbone of a base config leaves behind where ``_delete_=True`` is missing."""

from __future__ import annotations

from collections.abc import Iterable

from mmsn.errors import UserError


def refuse_unknown_options(names: Iterable[str]) -> None:
    """Refuse options that ``StitchedViT`` does not take.

    Raises:
        UserError: there are some; they are named, with where they usually come from.
    """
    if names := sorted(names):
        raise UserError(
            f"StitchedViT does not take {', '.join(names)}: if these come from the backbone of a "
            "base config, add _delete_=True to model.backbone, else remove them"
        )

"""Options that a backbone of a base config leaves behind where ``_delete_=True`` is missing."""

from __future__ import annotations

from collections.abc import Iterable

from mmsn.errors import UserError


def refuse_unknown_options(kind: str, names: Iterable[str]) -> None:
    """Refuse options that a stitched backbone does not take.

    Raises:
        UserError: there are some; they are named, with where they usually come from.
    """
    if names := sorted(names):
        raise UserError(
            f"{kind} does not take {', '.join(names)}: if these come from the backbone of a "
            "base config, add _delete_=True to model.backbone, else remove them"
        )


def refuse_foreign_options(kind: str, names: Iterable[str], pretrained: object) -> None:
    """Refuse unknown options, and the ``pretrained`` of other backbones.

    Raises:
        UserError: as ``refuse_unknown_options``; weights that are named for the whole backbone.
    """
    refuse_unknown_options(kind, names)
    if pretrained is not None:
        raise UserError(
            f"pretrained={pretrained!r} names weights of another backbone: set pretrained=None "
            "in the model; each anchor names its own"
        )

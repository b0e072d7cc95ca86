"""Results as JSON files that are written whole and checked when read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from mmsn.errors import UserError


class JsonFile(BaseModel):
    """A pydantic model in a file; ``what`` names it in messages."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")
    what: ClassVar[str]

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(self.model_dump_json(indent=1) + "\n")
        os.replace(part, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a file.

        Raises:
            UserError: a file that is none of a known version, with the first reason.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise UserError(f"{path} is no {cls.what}: {where}: {first['msg']}") from None

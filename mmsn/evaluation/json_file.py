"""Results as JSON files that are written whole and checked when read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from mmsn.errors import UserError
from mmsn.files import write_text

# JSON allows integers of any length, but those above about 1e308 cannot become a float, so that
# the first division would fail far from the file. No count needs more than 64 bits.
LARGEST = 2**63 - 1
Count = Annotated[int, Field(gt=0, le=LARGEST)]
Number = Annotated[int, Field(ge=0, le=LARGEST)]


class JsonFile(BaseModel):
    """A pydantic model in a file; ``what`` names it in messages."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")
    what: ClassVar[str]

    def save(self, path: str | Path) -> None:
        """Write as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a file.

        Raises:
            UserError: the file could not be read, or is not of a known version; the message has
                the first reason, with the value where it is short.
        """
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise UserError(f"{cls.what} {path} could not be read: {error.strerror}") from None
        except ValidationError as error:
            raise UserError(f"{path} is not a {cls.what}: {_first_reason(error)}") from None


def _first_reason(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the whole file"
    message = first["msg"].removeprefix("Value error, ").splitlines()[0]
    return f"{where}: {message}{_value(first['input'])}"


def _value(value: Any) -> str:
    """A wrong value for a message; lists and objects are left out, long ones are shortened."""
    if not isinstance(value, (str, int, float)):
        return ""
    text = repr(value)
    return f", got {text if len(text) <= 60 else text[:50] + '...'}"

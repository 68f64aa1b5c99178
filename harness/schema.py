"""What all records have in common.

Does not: hold a record. Imports pydantic and nothing of ours.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A time or a ratio: infinity would make a score without a measurement."""


class Record(BaseModel):
    """Base of all records: immutable, and closed against unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="strings"
    )

    @model_validator(mode="before")
    @classmethod
    def _derived_values_are_not_read(cls, data: object) -> object:
        """What is computed from other fields is written for readers, and computed again here."""
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if k not in cls.model_computed_fields}

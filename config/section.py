"""What every section of the settings is: frozen, and without names that nobody knows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the settings file."""

    # Built as a part of the whole settings, not once more by itself: that halves what each start of a program pays for them.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

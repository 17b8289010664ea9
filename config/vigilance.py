"""Settings of the watch over what people do, and of incidents."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.section import Section

Kind = Literal["mass_download", "mass_change", "new_address", "odd_hour", "many_clients"]


class WatchSettings(Section):
    """What counts as odd. Each is told of as the event `anomaly.found`; docs/explanation/anomalies.md says how it is judged."""

    enabled: bool = Field(True, description="Whether the scheduler watches at all.")
    every_seconds: float = Field(5.0, gt=0, le=3600, description="How often the audit log is read for new events.")
    downloads_per_hour: int = Field(
        200, ge=0, le=10_000_000, description="Papers that one person reads within an hour, from which on it may be odd; 0: off."
    )
    changes_per_hour: int = Field(
        100, ge=0, le=10_000_000, description="Names that one person removes, overwrites or renames within an hour; likewise. 0: off."
    )
    times_usual: float = Field(3.0, ge=1, le=1000, description="Both are odd only above so many times the person's own busiest hour of 28 days.")
    clients_per_day: int = Field(
        6, ge=0, le=100_000, description="Clients of which somebody of the staff opens papers in a day, from which on it may be odd; 0: off."
    )
    new_address: bool = Field(True, description="Whether a login from a network that was never seen is odd.")
    odd_hours: bool = Field(True, description="Whether a login at an hour that was never seen is odd; in the time zone of backup.timezone.")
    learning_days: int = Field(14, ge=0, le=365, description="Days since the first login before either is judged.")
    learning_logins: int = Field(10, ge=0, le=365, description="Days with a login before either is judged.")
    suspend: tuple[Kind, ...] = Field((), description="Kinds of anomaly that suspend the person at once, as in ['mass_download', 'mass_change'].")


class IncidentSettings(Section):
    """Incidents: `nightsafe incident`."""

    contacts: tuple[str, ...] = Field(
        (), max_length=100, description="Whom to inform, in the words that are to be shown: ['data protection officer: dpo@example.com']."
    )
    days: float = Field(90.0, gt=0, le=36_600, description="How far back the bundle of an incident goes.")

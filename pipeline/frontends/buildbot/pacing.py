"""How long the master waits; its tests shorten it."""

MINUTE: int = 60
"""Seconds of what ``farm.toml`` says in minutes and hours."""

LOOK_SECONDS: float = 15.0
"""How often it is looked whether a unit lacks a worker; ends of units are told at once."""

LOCK_SECONDS: float = 60.0
"""How often it is looked whether the database is still held."""

FRESH_SECONDS: float = 15.0
"""For how long what everybody may ask for is not asked of the database again."""

POST_PAUSES: tuple[float, ...] = (0.0, 5.0, 30.0)
"""Seconds before each attempt to post to the webhook."""

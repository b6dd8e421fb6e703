"""What the stores on servers share."""

from __future__ import annotations

from readthrough.config import holds_password
from readthrough.errors import ConfigError


def refuse_password(url: str, instead: str) -> None:
    """Settings are shown and kept: a password has no place in them.

    Raises:
        ConfigError: the address holds one.
    """
    if holds_password(url):
        raise ConfigError("the store's address holds a password", hint=f"leave it out and {instead}")

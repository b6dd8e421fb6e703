"""Where an endpoint is, and what must never be shown of it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from readthrough.errors import ConfigError

PUBLIC_URL = "https://api.openai.com/v1"

_SHOWN_CHARACTERS = 300
_HOST = re.compile(r"[\w.:-]+")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}|\bsk-[\w-]{8,}")


@dataclass(frozen=True, slots=True)
class Address:
    """A base URL without its credentials; `shown` may stand in errors and logs, the secrets never do."""

    shown: str
    headers: dict[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def redact(self, text: str) -> str:
        """`text` as `redact` leaves it, with this address's own secrets replaced as well."""
        return redact(text, self.secrets)


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` on one line, shortened, with every secret and all that looks like one replaced."""
    for secret in secrets:
        text = text.replace(secret, "***")
    text = " ".join(_BEARER.sub("***", text).split())
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."


def parse_address(url: str, api_key: str | None) -> Address:
    """The address of `url`. Credentials in it (`https://user:password@host`) become a header.

    Raises:
        ConfigError: not an http or https address, or one with a query (where keys tend to hide).
    """
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ConfigError(f"the endpoint's address is not valid: {error}") from None
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host or ""):
        raise ConfigError("the endpoint's address must begin with http:// or https://", hint="such as " + PUBLIC_URL)
    if parts.query or parts.fragment:
        raise ConfigError(f"the address of {host} must not hold a query", hint="give the key as OPENAI_API_KEY")
    bracketed = f"[{host}]" if ":" in str(host) else str(host)
    shown = urlunsplit((parts.scheme, bracketed + port, parts.path.rstrip("/"), "", ""))
    headers, secrets = {}, [api_key] if api_key else []
    if parts.username is not None:
        user, password = unquote(parts.username), unquote(parts.password or "")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
        secrets += [text for text in (password or user, parts.password or "", token) if text]
    return Address(shown, headers, tuple(sorted(set(secrets), key=len, reverse=True)))

"""The cookie of a handshake, with which a load balancer routes a client's requests to the same process."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from waypost.checking.constraints import CountOrZero, Matching
from waypost.checking.options import checked
from waypost.errors import ConfigurationError

__all__ = ["Cookie"]

# RFC 6265, section 4.1.1: a name is a token; attributes contain no control characters and no semicolons.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH = re.compile(r"/[\x21-\x3a\x3c-\x7e]*")
_DOMAIN = re.compile(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")


@checked("waypost.Cookie", prefix="cookie.")
@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """The cookie that the response to a handshake sets. Its value is the connection's Engine.IO session id.

    Attributes:
        name: The cookie's name.
        path: The path to which browsers send it.
        domain: The domain to which browsers send it; ``None`` for the server's own host only.
        max_age_s: Seconds until it expires, from 0; ``None`` keeps it until the browser is closed.
        http_only: Whether scripts can't read it. The value is a secret, so keep this on.
        secure: Whether browsers send it over TLS only.
        same_site: ``"lax"``, ``"strict"``, or ``"none"`` for pages of other sites, which needs ``secure``.

    Raises:
        ConfigurationError: An attribute has a value that it does not accept.
    """

    name: Annotated[str, Matching("a name of letters, digits and !#$%&'*+-.^_`|~", _NAME.fullmatch)] = "io"
    path: Annotated[str, Matching("a path that starts with /, with no blank and no ;", _PATH.fullmatch)] = "/"
    domain: Annotated[str, Matching("a domain, such as example.com", _DOMAIN.fullmatch)] | None = None
    max_age_s: CountOrZero | None = None
    http_only: bool = True
    secure: bool = False
    same_site: Literal["lax", "strict", "none"] = "lax"

    def __post_init__(self) -> None:
        if self.same_site == "none" and not self.secure:
            raise ConfigurationError(
                "cookie.same_site", self.same_site, "secure=True beside it: browsers drop it else"
            )

    def header(self, value: str) -> str:
        """Return the value of the ``Set-Cookie`` header.

        Args:
            value: The cookie's value, of URL-safe characters only.
        """
        parts = [f"{self.name}={value}", f"Path={self.path}"]
        if self.domain is not None:
            parts.append(f"Domain={self.domain}")
        if self.max_age_s is not None:
            parts.append(f"Max-Age={self.max_age_s}")
        if self.http_only:
            parts.append("HttpOnly")
        if self.secure:
            parts.append("Secure")
        parts.append(f"SameSite={self.same_site.capitalize()}")
        return "; ".join(parts)

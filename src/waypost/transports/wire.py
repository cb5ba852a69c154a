"""How a server's connections are made: with TLS or without, and whether requests are logged."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from waypost.errors import ConfigurationError

__all__ = ["PLAIN", "Wire"]


@dataclass(frozen=True, slots=True)
class Wire:
    """How a server's connections are made.

    Attributes:
        certfile: The file with the certificate and those of its issuers, as PEM; ``None`` for no TLS.
        keyfile: The file with its key; ``None`` if that is in ``certfile``.
        logs_requests: Whether each request is logged.
    """

    certfile: str | None = None
    keyfile: str | None = None
    logs_requests: bool = False

    def check(self) -> None:
        """Check that the certificate and its key can be used.

        Raises:
            ConfigurationError: They can't.
        """
        if self.certfile is None:
            return
        try:
            # A key with a password would be asked for on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.certfile, self.keyfile, lambda: "")
        except (OSError, ValueError) as error:
            key = "" if self.keyfile is None else f" and keyfile={self.keyfile!r}"
            expected = f"a certificate with its key, without a password, as PEM{key}; it says: {error}"
            raise ConfigurationError("certfile", self.certfile, expected) from error


PLAIN = Wire()
"""No TLS, and requests are not logged."""

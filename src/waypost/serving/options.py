"""The options of ``waypost serve``: where it listens, how many processes it has, and what it does beside serving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Annotated, Literal, TypeAlias

from waypost.checking.constraints import AtLeast, AtMost, Matching
from waypost.checking.options import checked
from waypost.errors import ConfigurationError
from waypost.log_settings import LogSettings

__all__ = ["Address", "ServeOptions", "parse_address"]

Address: TypeAlias = tuple[str, int]


def parse_address(text: str) -> Address | None:
    """Return the host and the port of an address; ``None`` if the text is none.

    Args:
        text: ``127.0.0.1:8001``, ``localhost:8001`` or ``[::1]:8001``.
    """
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if is_bracketed else host
    if not (host and colon) or (":" in host) != is_bracketed:
        return None
    return (host, int(port)) if port.isascii() and port.isdecimal() and int(port) <= 65535 else None


def _meet(one: Address, other: Address) -> bool:
    """Return whether two addresses can't be listened on for different things. Names are not looked up."""
    if one[1] != other[1] or one[1] == 0:
        return False
    try:
        hosts = [ip_address(one[0]), ip_address(other[0])]
    except ValueError:  # a name
        return True
    # A listener on IPv6 takes no IPv4.
    return hosts[0].version == hosts[1].version and (
        hosts[0] == hosts[1] or any(host.is_unspecified for host in hosts)
    )


_SideAddress: TypeAlias = Annotated[str, Matching("host:port, as in 127.0.0.1:8001 or [::1]:8001", parse_address)]
_Target: TypeAlias = Annotated[str, Matching("module:name, as in main:io", lambda text: ":" in text)]
_ReadFile: TypeAlias = Annotated[str, Matching("the path of a file", lambda text: text and "\0" not in text)]


def _help(purpose: str, metavar: str | None = None) -> Mapping[str, str | None]:
    """Return the metadata of a field: what the command line's help says of it."""
    return {"help": purpose, "metavar": metavar}


@checked("waypost serve")
@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The options of ``waypost serve``, as the command line, the environment and a file name them.

    The metadata of each field has the words of the command line's help.

    Raises:
        ConfigurationError: An option has a value that it does not accept, or needs another one beside it.
    """

    host: str = field(default="127.0.0.1", metadata=_help("the address to listen on"))
    port: Annotated[int, AtLeast(0), AtMost(65535)] = field(
        default=8000, metadata=_help("the port; 0 takes a free one")
    )
    uds: _ReadFile | None = field(
        default=None, metadata=_help("listen on this unix socket, and not on host and port", "PATH")
    )
    certfile: _ReadFile | None = field(
        default=None, metadata=_help("serve TLS with the certificate in this file (PEM)", "FILE")
    )
    keyfile: _ReadFile | None = field(
        default=None, metadata=_help("the certificate's key, if it is in a file of its own", "FILE")
    )
    workers: Literal["auto"] | Annotated[int, AtLeast(1), AtMost(9999)] = field(
        default=1, metadata=_help("the number of processes, or auto for the cores that may be used", "N")
    )
    reload: bool = field(
        default=False, metadata=_help("start anew whenever a Python file of this folder changes, for development")
    )
    server: _Target | None = field(
        default=None,
        metadata=_help(
            "the waypost.Server in the application, where the application does not show it", "module:name"
        ),
    )
    emitter_socket: _ReadFile | None = field(
        default=None,
        metadata=_help(
            "with several workers: a unix socket for waypost.Emitter of other programs, for a store in memory", "PATH"
        ),
    )
    health: _SideAddress | None = field(
        default=None,
        metadata=_help(
            "answer the probes /livez and /readyz here, also while the store is opened or closed", "HOST:PORT"
        ),
    )
    metrics: _SideAddress | None = field(
        default=None, metadata=_help("show Prometheus the metrics here, at /metrics", "HOST:PORT")
    )
    api: _SideAddress | None = field(default=None, metadata=_help("serve the HTTP API here, below /api", "HOST:PORT"))
    api_key_file: _ReadFile | None = field(
        default=None, metadata=_help("the keys of the HTTP API, from `waypost api-key new`", "FILE")
    )
    access_log: bool = field(default=False, metadata=_help("log each request"))
    log_level: Literal["debug", "info", "warning", "error"] = field(
        default="info", metadata=_help("the least level to log to stderr")
    )
    log_format: Literal["text", "json"] = field(
        default="text", metadata=_help("lines of the log for people, or an object of JSON each")
    )
    log_config: _ReadFile | None = field(
        default=None,
        metadata=_help("log as this file says: JSON or TOML for Python's logging.config.dictConfig", "FILE"),
    )
    env_file: _ReadFile | None = field(
        default=None, metadata=_help("set variables of the environment from the lines NAME=value here", "FILE")
    )
    config: _ReadFile | None = field(default=None, metadata=_help("read options from this TOML file", "FILE"))

    def __post_init__(self) -> None:
        if self.keyfile is not None and self.certfile is None:
            raise ConfigurationError("keyfile", self.keyfile, "certfile beside it")
        if self.log_config is not None and self.log_format != "text":
            raise ConfigurationError("log_config", self.log_config, "no log_format beside it: the file says it all")
        if (self.api is None) != (self.api_key_file is None):
            name = "api_key_file" if self.api is None else "api"
            expected = "api beside it" if self.api is None else "api_key_file beside it: nobody gets in without a key"
            raise ConfigurationError(name, getattr(self, name), expected)
        self._check_sides()

    def _check_sides(self) -> None:
        taken: dict[str, Address] = {} if self.uds is not None else {"the service": (self.host, self.port)}
        for name in ("health", "metrics", "api"):
            text: str | None = getattr(self, name)
            address = None if text is None else parse_address(text)
            if address is None:
                continue
            for other, known in taken.items():
                # Equal side addresses are one listener.
                if _meet(address, known) and (other == "the service" or address != known):
                    expected = f"an address that does not meet that of {other}, {known[0]}:{known[1]}"
                    raise ConfigurationError(name, text, expected)
            taken[name] = address

    @property
    def log(self) -> LogSettings:
        """The settings of logging."""
        return LogSettings(level=self.log_level, format=self.log_format, config=self.log_config)

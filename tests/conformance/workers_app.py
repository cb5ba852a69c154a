"""The application of the conformance tests, for `waypost serve --workers`."""

from __future__ import annotations

import json
import os

import waypost
from tests.conformance.site import Site, register
from tests.support.server_process import OPTIONS_VARIABLE

__all__ = ["io"]

io = waypost.Server(**{"drain_s": 0, "recovery": None, **json.loads(os.environ[OPTIONS_VARIABLE])})
_site = Site(io)
for _name in ("/", "/other"):
    register(io.of(_name), _site)

"""Lets ``python -m waypost`` be the ``waypost`` command."""

import sys

from waypost.cli import main

sys.exit(main())

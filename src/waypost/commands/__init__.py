"""The commands of ``waypost``, one module for each group.

A module's ``add(subcommands)`` adds its parsers, each with ``set_defaults(run=…)``: a function that takes the parsed
options and returns the exit code. What a command needs is imported when it runs, so that ``waypost --help`` is quick.
A new group is named in `waypost.cli`.
"""

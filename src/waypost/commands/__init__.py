"""The commands of ``waypost``, one module for each group.

A module's ``add(subcommands)`` adds its parsers, each with ``set_defaults(run=…)``: a function that takes the parsed
options and returns the exit code. A command imports its needs when it runs, which keeps ``waypost --help`` fast.
`waypost.cli` lists the groups.
"""

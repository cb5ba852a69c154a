"""Shops, a dispatcher's office and drivers, with official clients over a lossy network, on a server that is killed.

- `service.py`: the application on the server; `waypost serve tests.interop.parcels.service:io`.
- `people.py`: who uses it, and never gives up; `cast.py`: all of them, each on a line of their own.
- `story.py`: one story from one seed: people at work, trouble at drawn moments, and a calm end.
- `logbook.py`: what happened to one driver, and whether that may happen.

``python -m tests.interop.parcels --rounds 30`` plays many stories; ``--seed N`` repeats one.
"""

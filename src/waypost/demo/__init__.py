"""The demo: a parcel service whose driver goes offline and whose server is killed, and no parcel is lost.

Who is who:

- `service`: the server, a few lines of Waypost; `site` serves the page beside it.
- `supervisor`: runs the service as a process of its own and starts it again when it dies.
- `page`: the demo in a browser. The page's sources are in the repository's ``web/``.
- `headless`: the same story in the terminal, with a `shop` (a process of its own, watched by `shop_process`), a
  `driver` behind a `tunnel` that can really be cut, and the `ledger` that decides whether every parcel arrived
  exactly once and in order.
"""

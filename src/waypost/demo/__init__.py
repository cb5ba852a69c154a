"""The demo: a parcel service whose driver goes offline and whose server is killed, and no parcel is lost.

The parts:

- `service`: the server, a few lines of Waypost; `site` serves the page on the same port.
- `supervisor`: runs the service in a process of its own and restarts it when it dies.
- `page`: the demo in a browser. The page's sources are in the repository's ``web/``.
- `headless`: the same story in the terminal. It has a `shop` in a process of its own (watched by `shop_process`), a
  `driver` behind a `tunnel` that cuts real connections, and a `ledger` that checks that every parcel arrived once and
  in order.
"""

"""A parcel service with typed events: `events.py` says what is sent, `service.py` serves it, `driver.py` uses it."""

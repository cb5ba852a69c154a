"""The example servers of python-socketio and Flask-SocketIO, ported by docs/migrating.md.

They have the events, namespaces and arguments of the originals, so the pages and clients of those work with them.
"""

"""What every worker runs: pypiserver under gunicorn, configured by `server.json`.

This package is copied, together with `ppctl/__init__.py`, into each release. So it imports only the
standard library, the release's packages (pypiserver, gunicorn, libpass, bcrypt) and itself.
"""

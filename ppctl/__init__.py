"""ppctl: deploy and operate private Python package indexes."""

# Only the version lives here: this file is also copied into every release, beside ppctl.server.
__version__ = "0.1.0"

"""One more user, with pyinfra."""

from pyinfra import config, host
from pyinfra.operations import files

config.SUDO = True
files.line(
    path=f"{host.data.home}/htpasswd",
    line=f"^{host.data.user}:.*",
    replace=f"{host.data.user}:{host.data.password_hash}",
)

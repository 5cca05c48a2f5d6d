"""Whether the index answers, with pyinfra."""

from pyinfra import config, host
from pyinfra.operations import server

config.SUDO = True
server.shell([f"curl --fail --silent http://127.0.0.1:{host.data.port}/simple/"])

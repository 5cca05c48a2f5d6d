"""An index's own supervisord: `python -m ppctl.managers.own_supervisord -c FILE`.

supervisor (4.3) ends when it cannot open the socket of a group. It has to when all workers of an index were
killed; but what they had forked still holds the old one while it ends its transfers. Here such a start has
failed, as that of a program that is not there, and is tried again.
"""

from __future__ import annotations

from typing import Any

from supervisor import process, supervisord
from supervisor.options import ProcessException


class PatientSubprocess(process.FastCGISubprocess):  # type: ignore[misc]
    """A process that is handed the socket of its group."""

    def before_spawn(self) -> None:
        """Do nothing yet: an error of the socket would end supervisord here."""

    def get_execv_args(self) -> Any:
        """Open the socket, and return what is to be run. Raises ProcessException: try again later."""
        try:
            super().before_spawn()
        except OSError as e:
            raise ProcessException(f"cannot open the socket of the group: {e}") from e
        return super().get_execv_args()


if __name__ == "__main__":
    process.FastCGISubprocess = PatientSubprocess
    supervisord.main()

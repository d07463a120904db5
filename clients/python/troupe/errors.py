"""What can go wrong, as exceptions that share one base."""

from __future__ import annotations

from .wire.ErrorCode import ErrorCode

_NAMES = {value: name.rstrip("_") for name, value in vars(ErrorCode).items() if not name.startswith("__")}


class TroupeError(Exception):
    """Base of everything that this package raises by itself."""


class ServerUnreachable(TroupeError):
    """No server answered at the endpoint in time."""


class TimedOut(TroupeError):
    """Nothing came for longer than the timeout. The request has been cancelled at the server."""


class RequestFailed(TroupeError):
    """The server refused or ended the request with a typed error.

    code: its number in the protocol; name: its name there, e.g. "unknown_model"; text: what to do about it.
    """

    def __init__(self, code: int, text: str):
        self.code = code
        self.name = _NAMES.get(code, str(code))
        self.text = text
        super().__init__(f"{self.name}: {text}")

"""One open generation: an iterator over its chunks that ends with the server's Final or raises its error."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Iterator

from .errors import TroupeError
from .results import Chunk, Completion, Final

if TYPE_CHECKING:
    from .client import Client


class Stream:
    """Made by Client.generate. Leaving its `with` block, close(), or dropping the last reference cancels the rest."""

    def __init__(self, client: Client, request_id: int, timeout: float | None):
        self._client = client
        self.id = request_id
        self._timeout = timeout
        self._arrived: deque[Chunk] = deque()
        self._final: Final | None = None
        self._error: TroupeError | None = None
        self._closed = False
        self._alive_at = 0.0  # monotonic; when the server last said anything about this request

    # -- what the client's receive loop calls --

    def _push(self, chunk: Chunk) -> None:
        self._arrived.append(chunk)

    def _finish(self, final: Final) -> None:
        self._final = final

    def _fail(self, error: TroupeError) -> None:
        self._error = error

    # -- what users call --

    @property
    def done(self) -> bool:
        """The server has sent the last message of this stream."""
        return self._final is not None or self._error is not None

    @property
    def final(self) -> Final:
        """Finish reasons and usage. Only after the stream has been read to its end."""
        if self._final is None:
            raise RuntimeError("the stream has not been read to its end")
        return self._final

    def __iter__(self) -> Iterator[Chunk]:
        return self

    def __next__(self) -> Chunk:
        while not self._arrived:
            if self._error is not None:
                raise self._error
            if self._final is not None:
                raise StopIteration
            self._client._wait(self, self._timeout)
        return self._arrived.popleft()

    def cancel(self) -> None:
        """Asks the server to end this stream. Chunks on their way still arrive, then a Final with finish "cancelled"."""
        if not self.done and not self._client._socket.closed:
            self._client._cancel(self.id)

    def close(self) -> None:
        """Cancels the stream and forgets it."""
        if not self._closed:
            self._closed = True
            self.cancel()
            self._client._forget(self.id)

    def result(self) -> Completion:
        """Reads to the end and puts the pieces together."""
        texts: dict[int, list[str]] = {}
        tokens: dict[int, list] = {}
        prompt: tuple = ()
        for chunk in self:
            texts.setdefault(chunk.choice, []).append(chunk.text)
            tokens.setdefault(chunk.choice, []).extend(chunk.tokens)
            prompt = prompt + chunk.prompt
        count = len(self.final.choices)
        return Completion(
            tuple("".join(texts.get(i, [])) for i in range(count)),
            self.final,
            tuple(tuple(tokens.get(i, [])) for i in range(count)),
            prompt,
        )

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # the interpreter or the connection may be on its way out
            pass

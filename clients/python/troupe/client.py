"""The connection to a server. See the package's docstring for an example."""

from __future__ import annotations

import collections
import itertools
import os
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from . import requests
from .errors import RequestFailed, ServerUnreachable, TimedOut
from .requests import Prompt
from .results import Chunk, Completion, Final, ModelInfo, Operated, Operation, Status, _text
from .stream import Stream
from .wire.Chunk import Chunk as WireChunk
from .wire.DecodedText import DecodedText
from .wire.Error import Error
from .wire.Event import Event as WireEvent
from .wire.Final import Final as WireFinal
from .wire.History import History
from .wire.ModelList import ModelList
from .wire.Operated import Operated as WireOperated
from .wire.ReplyBody import ReplyBody
from .wire.ServerReply import ServerReply
from .wire.Status import Status as WireStatus
from .wire.TokenIds import TokenIds
from .wire.Welcome import Welcome

PROTOCOL_VERSION = 1
DEFAULT_ENDPOINT = "tcp://127.0.0.1:7410"
PACKAGE_VERSION = "0.1.0"

_BODIES = {
    ReplyBody.Welcome: Welcome,
    ReplyBody.Chunk: WireChunk,
    ReplyBody.Final: WireFinal,
    ReplyBody.Error: Error,
    ReplyBody.TokenIds: TokenIds,
    ReplyBody.DecodedText: DecodedText,
    ReplyBody.ModelList: ModelList,
    ReplyBody.Status: WireStatus,
    ReplyBody.Operated: WireOperated,
    ReplyBody.History: History,
    ReplyBody.Event: WireEvent,
}


def _body(reply: ServerReply):
    """The reply's table; None for a kind that is news to this client or carries none (Alive): to be ignored."""
    kind = _BODIES.get(reply.BodyType())
    if kind is None:
        return None
    table = kind()
    table.Init(reply.Body().Bytes, reply.Body().Pos)
    return table


class Client:
    """Any number of streams over one connection. Belongs to one thread; make one client per thread.

    endpoint: where `troupe serve` listens; None = $TROUPE_ENDPOINT, else DEFAULT_ENDPOINT.
    timeout: seconds that a call waits for the next message from the server; None = for ever. A server that is busy
        with a request says so every few seconds, so this is about servers that are gone, not about slow answers.
    Raises ServerUnreachable if no server answers within `timeout`. When the connection is lost later, whatever is open
    raises it; the connection heals by itself, and new requests may be made.
    """

    def __init__(self, endpoint: str | None = None, timeout: float | None = 60.0):
        self.endpoint = endpoint or os.environ.get("TROUPE_ENDPOINT") or DEFAULT_ENDPOINT
        self.timeout = timeout
        self._ids = itertools.count(1)
        self._streams: weakref.WeakValueDictionary[int, Stream] = weakref.WeakValueDictionary()
        self._answers: dict[int, Any] = {}
        self._waiting: set[int] = set()
        self._events_of: dict[int, collections.deque] = {}
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 200)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, 5000)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 15000)
        self._events = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._poller.register(self._events, zmq.POLLIN)
        try:
            self._socket.connect(self.endpoint)
            welcome = self._ask(requests.hello(PROTOCOL_VERSION, f"troupe-python {PACKAGE_VERSION}"), timeout)
        except zmq.ZMQError as problem:
            self._close_socket(linger=0)
            raise ServerUnreachable(f"{self.endpoint}: {problem}") from problem
        except TimedOut as problem:
            self._close_socket(linger=0)
            raise ServerUnreachable(
                f"no server answered at {self.endpoint} within {timeout} s; start one with `troupe serve`"
            ) from problem
        except BaseException:
            self._close_socket(linger=0)
            raise
        self.server = _text(welcome.Server())

    def close(self) -> None:
        """Cancels what is open and closes the connection."""
        if self._socket.closed:
            return
        for stream in list(self._streams.values()):
            stream.cancel()
        self._streams.clear()
        self._close_socket()

    def _close_socket(self, linger: int | None = None) -> None:
        self._socket.disable_monitor()
        self._events.close(linger=0)
        self._socket.close(linger)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    # -- generation --

    def generate(self, prompt: Prompt, *, model: str = "", timeout: float | None = None, **options) -> Stream:
        """Starts a generation and returns its stream of chunks.

        prompt: text, chat messages ({"role", "content"}) or token ids.
        timeout: seconds without any message after which TimedOut is raised; None = the client's.
        options, all optional, with the protocol's names and defaults:
          temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty,
          logit_bias ({id: bias}), seed, max_tokens, min_tokens, stop (text or list), stop_token_ids, ignore_eos,
          include_stop_string, n, stream, logprobs, top_logprobs, prompt_logprobs, echo, skip_special_tokens,
          add_special_tokens, add_generation_prompt, deadline_ms.
        Dropping the stream before its end cancels it at the server.
        """
        unknown = set(options) - _OPTIONS
        if unknown:
            raise TypeError(f"unknown option {sorted(unknown)[0]!r}; known: {', '.join(sorted(_OPTIONS))}")
        body = requests.generate(model, prompt, options)
        request_id = next(self._ids)
        stream = Stream(self, request_id, timeout if timeout is not None else self.timeout)
        self._streams[request_id] = stream
        self._send(request_id, body)
        return stream

    def complete(self, prompt: Prompt, **options) -> Completion:
        """generate(), read to the end."""
        return self.generate(prompt, **options).result()

    # -- questions with one answer --

    def tokenize(self, prompt: Prompt, *, model: str = "", **options) -> list[int]:
        """Token ids of a text (option: add_special_tokens) or of chat messages (option: add_generation_prompt)."""
        table = self._ask(requests.tokenize(model, prompt, options), self.timeout)
        return [table.Ids(i) for i in range(table.IdsLength())]

    def render(self, messages: Prompt, *, model: str = "", add_generation_prompt: bool = True) -> str:
        """The text that the model's chat template makes of messages."""
        options = {"add_generation_prompt": add_generation_prompt}
        return _text(self._ask(requests.tokenize(model, messages, options), self.timeout).Text())

    def detokenize(self, ids: Sequence[int], *, model: str = "", skip_special_tokens: bool = False) -> str:
        """Text of token ids."""
        return _text(self._ask(requests.detokenize(model, ids, skip_special_tokens), self.timeout).Text())

    def models(self) -> list[ModelInfo]:
        """The models that the server serves; the first is the default."""
        table = self._ask(requests.list_models(), self.timeout)
        return [ModelInfo._read(table.Models(i)) for i in range(table.ModelsLength())]

    def status(self) -> Status:
        """Load, cache, restarts."""
        return Status._read(self._ask(requests.server_status(), self.timeout))

    # -- live operation: what the server serves --

    def load(self, checkpoint: str, *, model: str = "", max_context: int = 0, **options) -> Operated:
        """Serves the checkpoint in that folder of the server's machine; model "" = the folder's name.

        options, all optional: expected_generation (0 = the name must not be served), dry_run, queue.
        Waits for the end, however long it takes. Raises RequestFailed: conflict, busy, no_room, or what is wrong with files.
        """
        return self._operate(requests.load(os.path.abspath(checkpoint), model, max_context, _operating(options)))

    def unload(self, model: str, *, deadline_ms: int = 0, **options) -> Operated:
        """Serves a model no longer. Its streams go on to their end, or for `deadline_ms` (0 = to their end).

        options as in load(). Raises RequestFailed: unknown_model, conflict, busy.
        """
        return self._operate(requests.unload(model, deadline_ms, _operating(options)))

    def swap(self, model: str, module: str, **options) -> Operated:
        """Runs the model with another module, a library on the server's machine, while its streams go on.

        options, all optional: move ("automatic", "carry", "recompute", "finish"), deadline_ms (of finish), verify ("exact", "off",
        or the largest difference of a logit), probation_ms, probation_requests; and as in load().
        Raises RequestFailed: conflict (also: taken back on probation), bad_module, bad_checkpoint, ...
        """
        return self._operate(requests.swap(model, os.path.abspath(module), _changing(options)))

    def deploy(self, model: str, checkpoint: str, **options) -> Operated:
        """Serves other weights under the model's name.

        options as in swap(), and share_percent, sticky, module (a path), max_context.
        """
        if options.get("module"):
            options["module"] = os.path.abspath(options["module"])
        return self._operate(requests.deploy(model, os.path.abspath(checkpoint), _changing(options, deploying=True)))

    def promote(self, model: str, **options) -> Operated:
        """Ends the probation of the operation under way as passed."""
        return self._operate(requests.simple("Promote", model, {}, _operating(options)))

    def rollback(self, model: str, *, deadline_ms: int = 0, **options) -> Operated:
        """Takes back what is on probation; else goes back to the version before the last commit."""
        return self._operate(requests.simple("Rollback", model, {"deadline_ms": deadline_ms}, _operating(options)))

    def sleep(self, model: str, *, deadline_ms: int = 0, **options) -> Operated:
        """Takes no new requests, lets the open ones end, gives the device's memory back until wake()."""
        return self._operate(requests.simple("Sleep", model, {"deadline_ms": deadline_ms}, _operating(options)))

    def drain(self, model: str, *, deadline_ms: int = 0, **options) -> Operated:
        """As sleep(), but the weights stay."""
        return self._operate(requests.simple("Drain", model, {"deadline_ms": deadline_ms}, _operating(options)))

    def wake(self, model: str, **options) -> Operated:
        """Serves a model again that sleeps or was drained."""
        return self._operate(requests.simple("Wake", model, {}, _operating(options)))

    def pin(self, model: str, pinned: bool = True, **options) -> Operated:
        """Refuses operations on the model until it is unpinned."""
        return self._operate(requests.simple("Pin", model, {"pinned": pinned}, _operating(options)))

    def history(self, model: str = "", limit: int = 0) -> list[Operation]:
        """Operations, oldest first, those under way last; model "" = of all models, limit 0 = all that are kept."""
        table = self._ask(requests.list_history(model, limit), self.timeout)
        return [Operation._read(table.Operations(i)) for i in range(table.OperationsLength())]

    def events(self, model: str = "", timeout: float | None = None) -> Iterator[Operation]:
        """Each change of an operation from now on, as it happens. Ends when it is closed, or with TimedOut."""
        request_id = next(self._ids)
        arrived = self._events_of[request_id] = collections.deque()
        self._send(request_id, requests.follow_events(model))
        return self._follow(request_id, arrived, timeout)

    def _follow(self, request_id: int, arrived: collections.deque, timeout: float | None) -> Iterator[Operation]:
        try:
            while True:
                end = None if timeout is None else time.monotonic() + timeout
                while not arrived:
                    self._receive(None if end is None else end - time.monotonic())
                event = arrived.popleft()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            del self._events_of[request_id]
            if not self._socket.closed:
                self._cancel(request_id)

    def _operate(self, body: tuple[int, object]) -> Operated:
        return Operated._read(self._ask(body, None))

    # -- the wire --

    def _send(self, request_id: int, body: tuple[int, object]) -> None:
        self._socket.send(requests.encode(PROTOCOL_VERSION, request_id, body))

    def _cancel(self, request_id: int) -> None:
        self._send(next(self._ids), requests.cancel(request_id))

    def _forget(self, request_id: int) -> None:
        self._streams.pop(request_id, None)

    def _ask(self, body: tuple[int, object], timeout: float | None):
        request_id = next(self._ids)
        self._waiting.add(request_id)
        try:
            self._send(request_id, body)
            end = None if timeout is None else time.monotonic() + timeout
            while request_id not in self._answers:
                self._receive(None if end is None else end - time.monotonic())
            answer = self._answers.pop(request_id)
        finally:
            self._waiting.discard(request_id)
        if isinstance(answer, Error):
            raise RequestFailed(answer.Code(), _text(answer.Text()))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _wait(self, stream: Stream, timeout: float | None) -> None:
        """Handles messages until something for `stream` has arrived. Each sign of life starts its timeout anew."""
        if stream.id not in self._streams:
            raise RuntimeError("the stream is closed")
        stream._alive_at = time.monotonic()
        while not stream._arrived and not stream.done:
            left = None if timeout is None else stream._alive_at + timeout - time.monotonic()
            try:
                self._receive(left)
            except TimedOut:
                stream.close()
                raise

    def _receive(self, timeout: float | None) -> None:
        """Waits for one message and hands it to whoever it is for."""
        wait_ms = None if timeout is None else max(0, int(timeout * 1000))
        ready = dict(self._poller.poll(wait_ms))
        if self._socket in ready:
            self._take(ServerReply.GetRootAs(self._socket.recv()))
        elif self._events in ready:
            recv_monitor_message(self._events)
            self._lose_connection()
        else:
            raise TimedOut(f"nothing from {self.endpoint} within the timeout")

    def _lose_connection(self) -> None:
        """The server does not know us any more: what is open will never be answered."""
        problem = ServerUnreachable(f"the connection to {self.endpoint} was lost; is the server still running?")
        for stream in list(self._streams.values()):
            stream._fail(problem)
            self._forget(stream.id)
        for request_id in self._waiting:
            self._answers[request_id] = problem
        for arrived in self._events_of.values():
            arrived.append(problem)

    def _take(self, reply: ServerReply) -> None:
        request_id = reply.Id()
        stream = self._streams.get(request_id)
        if stream is not None:
            stream._alive_at = time.monotonic()
        body = _body(reply)
        if body is None:
            return
        if request_id == 0 and isinstance(body, Error):
            raise RequestFailed(body.Code(), _text(body.Text()))
        if request_id in self._waiting:
            self._answers[request_id] = body
            return
        if request_id in self._events_of:
            failed = isinstance(body, Error)
            self._events_of[request_id].append(
                RequestFailed(body.Code(), _text(body.Text())) if failed else Operation._read(body.Info())
            )
            return
        if stream is None:
            return  # a stream that was closed here
        if isinstance(body, WireChunk):
            stream._push(Chunk._read(body))
            return
        if isinstance(body, WireFinal):
            stream._finish(Final._read(body))
        elif isinstance(body, Error):
            stream._fail(RequestFailed(body.Code(), _text(body.Text())))
        self._forget(request_id)


def _operating(options: Mapping[str, object]) -> Mapping[str, object]:
    known = ("expected_generation", "dry_run", "queue")
    unknown = set(options) - set(known)
    if unknown:
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}; known: {', '.join(known)}")
    return options


def _changing(options: Mapping[str, object], deploying: bool = False) -> Mapping[str, object]:
    known = {"move", "deadline_ms", "verify", "probation_ms", "probation_requests"}
    if deploying:
        known |= {"share_percent", "sticky", "module", "max_context"}
    _operating({name: value for name, value in options.items() if name not in known})
    return options


_OPTIONS = set(requests.SAMPLING) | {
    "logit_bias",
    "seed",
    "max_tokens",
    "min_tokens",
    "stop",
    "stop_token_ids",
    "ignore_eos",
    "include_stop_string",
    "n",
    "stream",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "echo",
    "skip_special_tokens",
    "add_special_tokens",
    "add_generation_prompt",
    "deadline_ms",
}

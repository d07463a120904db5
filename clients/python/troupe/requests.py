"""Builds the bytes of requests. Tables are those of schemas/client.fbs."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Union

import flatbuffers

from .wire.Cancel import CancelT
from .wire.ChatMessage import ChatMessageT
from .wire.ChatPrompt import ChatPromptT
from .wire.ClientRequest import ClientRequestT
from .wire.Detokenize import DetokenizeT
from .wire.Deploy import DeployT
from .wire.Drain import DrainT
from .wire.FollowEvents import FollowEventsT
from .wire.Generate import GenerateT
from .wire.Hello import HelloT
from .wire.ListHistory import ListHistoryT
from .wire.ListModels import ListModelsT
from .wire.Load import LoadT
from .wire.LogitBias import LogitBiasT
from .wire.Move import Move
from .wire.Operate import OperateT
from .wire.Pin import PinT
from .wire.Promote import PromoteT
from .wire.Prompt import Prompt as PromptType
from .wire.RequestBody import RequestBody
from .wire.Rollback import RollbackT
from .wire.Sampling import SamplingT
from .wire.ServerStatus import ServerStatusT
from .wire.Sleep import SleepT
from .wire.StopConditions import StopConditionsT
from .wire.Swap import SwapT
from .wire.TextPrompt import TextPromptT
from .wire.TokenPrompt import TokenPromptT
from .wire.Tokenize import TokenizeT
from .wire.Unload import UnloadT
from .wire.Verb import Verb
from .wire.Verify import Verify
from .wire.Wake import WakeT

Prompt = Union[str, Sequence[int], Sequence[Mapping[str, str]]]

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")

# Whole numbers and the bits that the schema gives them.
_UNSIGNED = {"seed": 64, "top_k": 32, "max_tokens": 32, "min_tokens": 32, "n": 32, "top_logprobs": 32, "deadline_ms": 32}
_SIGNED = {"prompt_logprobs": 32}


def _whole(name: str, value: object, low: int, high: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        raise ValueError(f"{name} is {value!r}: expected a whole number from {low} to {high}")
    return number


def _check_numbers(options: Mapping[str, object]) -> None:
    """What does not fit into its field could not be sent."""
    for name, bits in _UNSIGNED.items():
        if options.get(name) is not None:
            _whole(name, options[name], 0, 2**bits - 1)
    for name, bits in _SIGNED.items():
        if options.get(name) is not None:
            _whole(name, options[name], -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _token(value: object) -> int:
    return _whole("a token id", value, -(2**31), 2**31 - 1)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _assign(table, values: Mapping[str, object]) -> None:
    """Sets fields by their schema names, whichever way this version of flatc spells attributes."""
    for name, value in values.items():
        if value is not None:
            setattr(table, name if hasattr(table, name) else _camel(name), value)


def prompt_of(value: Prompt, options: Mapping[str, object]) -> tuple[int, object]:
    """The union member for a text, a list of chat messages or a list of token ids."""
    if isinstance(value, str):
        table = TextPromptT()
        _assign(table, {"text": value, "add_special_tokens": options.get("add_special_tokens", True)})
        return PromptType.TextPrompt, table
    items = list(value)
    if items and isinstance(items[0], Mapping):
        messages = []
        for number, item in enumerate(items):
            for key in ("role", "content"):
                if not isinstance(item.get(key), str):
                    raise ValueError(f"message {number}: {key!r} is {item.get(key)!r}: expected a text")
            message = ChatMessageT()
            _assign(message, {"role": item["role"], "content": item["content"]})
            messages.append(message)
        table = ChatPromptT()
        _assign(table, {"messages": messages, "add_generation_prompt": options.get("add_generation_prompt", True)})
        return PromptType.ChatPrompt, table
    table = TokenPromptT()
    _assign(table, {"ids": [_token(i) for i in items]})
    return PromptType.TokenPrompt, table


def sampling_of(options: Mapping[str, object]) -> SamplingT | None:
    """None if nothing about sampling was said: the server then uses the checkpoint's defaults."""
    given = {name: options[name] for name in SAMPLING if options.get(name) is not None}
    bias = options.get("logit_bias")
    seed = options.get("seed")
    if not given and not bias and seed is None:
        return None
    table = SamplingT()
    _assign(table, given)
    if seed is not None:
        _assign(table, {"seed": seed, "has_seed": True})
    if bias:
        entries = []
        for token, value in bias.items():
            entry = LogitBiasT()
            _assign(entry, {"token": _token(int(token)), "bias": float(value)})
            entries.append(entry)
        _assign(table, {"logit_bias": entries})
    return table


def stop_of(options: Mapping[str, object]) -> StopConditionsT:
    strings = options.get("stop") or []
    table = StopConditionsT()
    _assign(
        table,
        {
            "max_tokens": options.get("max_tokens"),
            "min_tokens": options.get("min_tokens"),
            "token_ids": [_token(i) for i in options.get("stop_token_ids") or []] or None,
            "strings": [strings] if isinstance(strings, str) else list(strings) or None,
            "ignore_eos": options.get("ignore_eos"),
            "include_stop_string": options.get("include_stop_string"),
        },
    )
    return table


def generate(model: str, prompt: Prompt, options: Mapping[str, object]) -> tuple[int, GenerateT]:
    _check_numbers(options)
    table = GenerateT()
    kind, body = prompt_of(prompt, options)
    _assign(table, {"model": model, "prompt_type": kind, "prompt": body, "stop": stop_of(options)})
    _assign(table, {"sampling": sampling_of(options)})
    names = ("n", "stream", "logprobs", "top_logprobs", "prompt_logprobs", "echo", "skip_special_tokens", "deadline_ms")
    _assign(table, {name: options.get(name) for name in names})
    return RequestBody.Generate, table


def tokenize(model: str, prompt: Prompt, options: Mapping[str, object]) -> tuple[int, TokenizeT]:
    table = TokenizeT()
    kind, body = prompt_of(prompt, options)
    _assign(table, {"model": model, "prompt_type": kind, "prompt": body})
    return RequestBody.Tokenize, table


def detokenize(model: str, ids: Sequence[int], skip_special_tokens: bool) -> tuple[int, DetokenizeT]:
    table = DetokenizeT()
    _assign(table, {"model": model, "ids": list(ids), "skip_special_tokens": skip_special_tokens})
    return RequestBody.Detokenize, table


def hello(version: int, client: str) -> tuple[int, HelloT]:
    table = HelloT()
    _assign(table, {"min_version": version, "max_version": version, "client": client})
    return RequestBody.Hello, table


def cancel(target: int) -> tuple[int, CancelT]:
    table = CancelT()
    _assign(table, {"target": target})
    return RequestBody.Cancel, table


def list_models() -> tuple[int, ListModelsT]:
    return RequestBody.ListModels, ListModelsT()


def server_status() -> tuple[int, ServerStatusT]:
    return RequestBody.ServerStatus, ServerStatusT()


def _operate(model: str, verb: int, body: object, options: Mapping[str, object]) -> tuple[int, OperateT]:
    table = OperateT()
    _assign(table, {"model": model, "verb_type": verb, "verb": body})
    _assign(table, {name: options.get(name) for name in ("expected_generation", "dry_run", "queue")})
    return RequestBody.Operate, table


def load(checkpoint: str, model: str, max_context: int, options: Mapping[str, object]) -> tuple[int, OperateT]:
    body = LoadT()
    _assign(body, {"checkpoint": checkpoint, "max_context": max_context})
    return _operate(model, Verb.Load, body, options)


def unload(model: str, deadline_ms: int, options: Mapping[str, object]) -> tuple[int, OperateT]:
    body = UnloadT()
    _assign(body, {"deadline_ms": deadline_ms})
    return _operate(model, Verb.Unload, body, options)


_CHANGE = ("deadline_ms", "probation_ms", "probation_requests")


def _change(body: object, options: Mapping[str, object]) -> None:
    _assign(body, {name: options.get(name) for name in _CHANGE})
    if (move := options.get("move")) is not None:
        body.move = _named(Move, "move", move)
    verify = options.get("verify")
    if isinstance(verify, (int, float)):
        _assign(body, {"verify": Verify.max_logit_diff, "max_logit_diff": float(verify)})
    elif verify is not None:
        body.verify = _named(Verify, "verify", verify)


def _named(kind: type, field: str, name: object) -> int:
    known = {key: value for key, value in vars(kind).items() if not key.startswith("_")}
    if name not in known:
        raise ValueError(f"{field}: expected one of {', '.join(known)}, found {name!r}")
    return known[name]


def swap(model: str, module: str, options: Mapping[str, object]) -> tuple[int, OperateT]:
    body = SwapT()
    _assign(body, {"module": module})
    _change(body, options)
    return _operate(model, Verb.Swap, body, options)


def deploy(model: str, checkpoint: str, options: Mapping[str, object]) -> tuple[int, OperateT]:
    body = DeployT()
    _assign(body, {"checkpoint": checkpoint})
    _assign(body, {name: options.get(name) for name in ("module", "max_context", "share_percent", "sticky")})
    _change(body, options)
    return _operate(model, Verb.Deploy, body, options)


def simple(verb: str, model: str, fields: Mapping[str, object], options: Mapping[str, object]) -> tuple[int, OperateT]:
    """Promote, Rollback, Sleep, Wake, Pin, Drain."""
    bodies = {"Promote": PromoteT, "Rollback": RollbackT, "Sleep": SleepT, "Wake": WakeT, "Pin": PinT, "Drain": DrainT}
    body = bodies[verb]()
    _assign(body, fields)
    return _operate(model, getattr(Verb, verb), body, options)


def list_history(model: str, limit: int) -> tuple[int, ListHistoryT]:
    table = ListHistoryT()
    _assign(table, {"model": model, "limit": limit})
    return RequestBody.ListHistory, table


def follow_events(model: str) -> tuple[int, FollowEventsT]:
    table = FollowEventsT()
    _assign(table, {"model": model})
    return RequestBody.FollowEvents, table


def encode(version: int, request_id: int, body: tuple[int, object]) -> bytes:
    """The whole frame."""
    request = ClientRequestT()
    _assign(request, {"version": version, "id": request_id, "body_type": body[0], "body": body[1]})
    builder = flatbuffers.Builder(256)
    builder.Finish(request.Pack(builder))
    return bytes(builder.Output())

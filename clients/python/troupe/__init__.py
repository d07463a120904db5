"""Client for Troupe, a server for open mixture-of-experts language models.

    from troupe import Client

    with Client("tcp://127.0.0.1:7410") as client:
        for chunk in client.generate([{"role": "user", "content": "What is the capital of France?"}]):
            print(chunk.text, end="", flush=True)

A prompt is a text, a list of chat messages or a list of token ids. The wire format is described in docs/protocol.md.
"""

from .client import Client, DEFAULT_ENDPOINT, PROTOCOL_VERSION
from .errors import RequestFailed, ServerUnreachable, TimedOut, TroupeError
from .results import (
    Alternative,
    CacheInfo,
    ChoiceEnd,
    Chunk,
    Completion,
    Final,
    ModelInfo,
    Operated,
    Operation,
    Restart,
    Status,
    TokenLogprob,
    Usage,
)
from .stream import Stream

__all__ = [
    "Alternative",
    "CacheInfo",
    "ChoiceEnd",
    "Chunk",
    "Client",
    "Completion",
    "DEFAULT_ENDPOINT",
    "Final",
    "ModelInfo",
    "Operated",
    "Operation",
    "PROTOCOL_VERSION",
    "RequestFailed",
    "Restart",
    "ServerUnreachable",
    "Status",
    "Stream",
    "TimedOut",
    "TokenLogprob",
    "TroupeError",
    "Usage",
]

"""What the server answers, as plain immutable values."""

from __future__ import annotations

from dataclasses import dataclass

from .wire.FinishReason import FinishReason

_FINISH = {
    FinishReason.none: "none",
    FinishReason.stop: "stop",
    FinishReason.length: "length",
    FinishReason.cancelled: "cancelled",
}


def _text(value: bytes | None) -> str:
    return value.decode("utf-8") if value else ""


@dataclass(frozen=True)
class Alternative:
    token: int
    logprob: float


@dataclass(frozen=True)
class TokenLogprob:
    token: int
    logprob: float  # natural logarithm; NaN for the first token of a prompt
    bytes: bytes  # the token's own bytes; may be part of a code point
    top: tuple[Alternative, ...] = ()  # most likely first

    @classmethod
    def _read(cls, table) -> TokenLogprob:
        top = tuple(Alternative(table.Top(i).Token(), table.Top(i).Logprob()) for i in range(table.TopLength()))
        raw = bytes(table.Text(i) for i in range(table.TextLength()))
        return cls(table.Token(), table.Logprob(), raw, top)


@dataclass(frozen=True)
class Chunk:
    """Part of one choice's output. Texts of a choice in order of arrival make up its whole text."""

    choice: int
    text: str
    tokens: tuple[TokenLogprob, ...] = ()
    prompt: tuple[TokenLogprob, ...] = ()

    @classmethod
    def _read(cls, table) -> Chunk:
        tokens = tuple(TokenLogprob._read(table.Tokens(i)) for i in range(table.TokensLength()))
        prompt = tuple(TokenLogprob._read(table.Prompt(i)) for i in range(table.PromptLength()))
        return cls(table.Choice(), _text(table.Text()), tokens, prompt)


@dataclass(frozen=True)
class ChoiceEnd:
    choice: int
    finish: str  # "stop", "length" or "cancelled"
    stop_token: int | None
    stop_string: str | None
    generated_tokens: int
    seed: int


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    queue_ms: float
    first_token_ms: float
    total_ms: float


@dataclass(frozen=True)
class Final:
    choices: tuple[ChoiceEnd, ...]
    usage: Usage

    @classmethod
    def _read(cls, table) -> Final:
        ends = []
        for i in range(table.ChoicesLength()):
            end = table.Choices(i)
            string = end.StopString()
            token = end.StopToken()
            ends.append(
                ChoiceEnd(
                    end.Choice(),
                    _FINISH.get(end.Finish(), str(end.Finish())),
                    token if token >= 0 else None,
                    _text(string) if string is not None else None,
                    end.GeneratedTokens(),
                    end.Seed(),
                )
            )
        u = table.Usage()
        usage = Usage(
            u.PromptTokens(), u.CachedTokens(), u.GeneratedTokens(), u.QueueMs(), u.FirstTokenMs(), u.TotalMs()
        )
        return cls(tuple(ends), usage)


@dataclass(frozen=True)
class Completion:
    """A whole answer: the text of each choice, and how each ended."""

    texts: tuple[str, ...]
    final: Final
    tokens: tuple[tuple[TokenLogprob, ...], ...] = ()
    prompt: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        return self.texts[0]


@dataclass(frozen=True)
class ModelInfo:
    name: str
    architecture: str
    module: str
    module_sha256: str
    context_tokens: int
    vocabulary: int
    parameters: int
    state: str
    waiting: int
    running: int
    generated_tokens: int
    steps: int = 0
    generation: int = 0
    checkpoint: str = ""
    tokens_per_second: float = 0.0
    weight_bytes: int = 0
    share_percent: int = 100
    pinned: bool = False

    @classmethod
    def _read(cls, t) -> ModelInfo:
        return cls(
            _text(t.Name()),
            _text(t.Architecture()),
            _text(t.Module()),
            _text(t.ModuleSha256()),
            t.ContextTokens(),
            t.Vocabulary(),
            t.Parameters(),
            _text(t.State()),
            t.Waiting(),
            t.Running(),
            t.GeneratedTokens(),
            t.Steps(),
            t.Generation(),
            _text(t.Checkpoint()),
            t.TokensPerSecond(),
            t.WeightBytes(),
            t.SharePercent(),
            t.Pinned(),
        )


@dataclass(frozen=True)
class CacheInfo:
    blocks: int
    free_blocks: int
    cached_blocks: int
    block_bytes: int


@dataclass(frozen=True)
class Restart:
    actor: str
    restarts: int
    last_reason: str


@dataclass(frozen=True)
class Operation:
    """An operation on a model: where it stands, or how it ended."""

    number: int
    model: str
    verb: str  # "load" or "unload"
    state: str  # "queued", "staging", ..., at its end "done", "refused" or "undone"
    dry_run: bool
    begun_ms: int  # since 1970-01-01 UTC
    took_ms: float
    old_generation: int  # 0 = the name was not served
    new_generation: int
    reason: str

    @classmethod
    def _read(cls, t) -> Operation:
        return cls(
            t.Operation(),
            _text(t.Model()),
            _text(t.Verb()),
            _text(t.State()),
            bool(t.DryRun()),
            t.BegunMs(),
            t.TookMs(),
            t.OldGeneration(),
            t.NewGeneration(),
            _text(t.Reason()),
        )


@dataclass(frozen=True)
class Operated:
    """What an operation did, or would do if it was a dry run."""

    operation: Operation
    report: tuple[str, ...]
    bytes_loaded: int
    bytes_freed: int
    streams_finished: int
    streams_ended: int
    sequences_continued: int = 0  # carried over a switch
    sequences_recomputed: int = 0
    bytes_shared: int = 0
    caches_kept: bool = False
    pause_ms: float = 0.0  # longest time between two tokens around the switch
    usual_pause_ms: float = 0.0

    @classmethod
    def _read(cls, t) -> Operated:
        report = tuple(_text(t.Report(i)) for i in range(t.ReportLength()))
        return cls(
            Operation._read(t.Info()),
            report,
            t.BytesLoaded(),
            t.BytesFreed(),
            t.StreamsFinished(),
            t.StreamsEnded(),
            t.SequencesContinued(),
            t.SequencesRecomputed(),
            t.BytesShared(),
            t.CachesKept(),
            t.PauseMs(),
            t.UsualPauseMs(),
        )


@dataclass(frozen=True)
class Status:
    version: str
    uptime_ms: int
    clients: int
    open_requests: int
    bad_frames: int
    cache: CacheInfo | None
    models: tuple[ModelInfo, ...]
    restarts: tuple[Restart, ...] = ()
    operations: tuple[Operation, ...] = ()  # under way

    @classmethod
    def _read(cls, t) -> Status:
        c = t.Cache()
        cache = CacheInfo(c.Blocks(), c.FreeBlocks(), c.CachedBlocks(), c.BlockBytes()) if c else None
        models = tuple(ModelInfo._read(t.Models(i)) for i in range(t.ModelsLength()))
        rows = (t.Restarts(i) for i in range(t.RestartsLength()))
        restarts = tuple(Restart(_text(r.Actor()), r.Restarts(), _text(r.LastReason())) for r in rows)
        operations = tuple(Operation._read(t.Operations(i)) for i in range(t.OperationsLength()))
        return cls(
            _text(t.Version()),
            t.UptimeMs(),
            t.Clients(),
            t.OpenRequests(),
            t.BadFrames(),
            cache,
            models,
            restarts,
            operations,
        )

"""The protocol of text generation: requests in, completions out, in request order.

Every engine (an API, vLLM, transformers, the embedded offline teacher) is used through
this; no caller asks which one it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from espalier.engines.secrets import private_parts, secret_place
from espalier.prices import Prices
from espalier.records import Message, Messages

FinishReason = Literal["stop", "length", "error"]
# The kind of a validation error whose input may not be shown.
HIDDEN = "hidden_input"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy. `max_tokens` bounds each completion."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One completion to make.

    Exactly one of `messages` (chat form; engines that serve a chat model apply its template)
    and `token_ids` (already templated; local models only) is set. `sample` numbers repeated
    draws for the same prompt: (prompt, sampling, sample) names a completion.
    """

    messages: Messages = ()
    token_ids: tuple[int, ...] = ()
    sample: int = 0

    @classmethod
    def of(cls, prompt: str, *, system: str | None = None, sample: int = 0) -> Request:
        """A one-turn chat request."""
        head = (Message("system", system),) if system else ()
        return cls(messages=(*head, Message("user", prompt)), sample=sample)

    @property
    def prompt(self) -> str:
        """The text of the last user turn ("" for token requests)."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens billed or computed for one request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `token_ids`/`logprobs` (natural log, one a token) where the engine has them.

    The `text` of one that ends in "error" says why there is no answer.
    """

    text: str
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()

    @property
    def billed(self) -> bool:
        """Whether it is worth keeping: an answer, or an error that tokens were spent on."""
        return self.finish_reason != "error" or self.usage != Usage()


@dataclass(frozen=True, slots=True)
class TokenScores:
    """How likely a model finds the tokens of a sequence, from the second on.

    `logprobs` are natural, under the model's own distribution (temperature 1, nothing cut off);
    `best` are the ids that it finds likeliest in those places, `best_logprobs` theirs.
    """

    logprobs: tuple[float, ...]
    best: tuple[int, ...]
    best_logprobs: tuple[float, ...]


def in_order(answers: Iterable[tuple[int, Completion]]) -> Iterator[Completion]:
    """Completions by their request's number, from (number, completion) as they arrive."""
    waiting: dict[int, Completion] = {}
    following = 0
    for index, completion in answers:
        waiting[index] = completion
        while following in waiting:
            yield waiting.pop(following)
            following += 1


@runtime_checkable
class Engine(Protocol):
    """Something that completes prompts.

    `model` names what answers; `costly` says that answers are worth journaling
    (an API call or GPU time, rather than a pure function).
    """

    model: str
    costly: bool

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Completion]:
        """Yield one completion a request, in request order."""
        ...

    def close(self) -> None:
        """Give back what the engine holds (memory, connections)."""
        ...


@runtime_checkable
class ScoringEngine(Engine, Protocol):
    """An engine of a local model, which can also say how likely given tokens are."""

    def score(self, sequences: Sequence[Sequence[int]]) -> Iterator[TokenScores]:
        """Yield the scores of each sequence of token ids, in their order.

        Raises StageError or InputError for a sequence that is empty or too long for the model.
        """
        ...


class EngineSpec(BaseModel):
    """Which engine answers, as written in a recipe. A secret in it is refused, and not repeated."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    # How and where an engine is reached, how fast and for how much: none of it changes an answer.
    OPERATIONAL: ClassVar[frozenset[str]] = frozenset(
        {
            "base_url",
            "api_key_env",
            "concurrency",
            "max_concurrency",
            "requests_per_minute",
            "tokens_per_minute",
            "timeout",
            "retries",
            "prices",
        }
    )

    engine: Literal["offline", "transformers", "openai", "vllm", "vllm-server", "function"] = Field(
        "offline",
        description="offline (embedded, synthetic), transformers (a local model), "
        "openai (any OpenAI-compatible API), vllm (a local model, in a child process), "
        "vllm-server (a local model, served by vLLM over HTTP), function (one of your own).",
    )
    model: str = Field(
        "espalier-offline",
        description="Model name, hub name or folder; of a function file.py:function or "
        "package.module:function.",
    )
    base_url: str | None = Field(None, description="API address, e.g. http://localhost:8000/v1.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key (never the key)."
    )
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="API requests in flight at once; auto finds what the server can take.",
    )
    max_concurrency: int = Field(512, ge=1, description="Most that auto tries.")
    requests_per_minute: int | None = Field(
        None, ge=1, description="Rate limit of the API; shared by engines of one server and model."
    )
    tokens_per_minute: int | None = Field(
        None, ge=1, description="Rate limit of the API, prompts and answers together; shared."
    )
    prices: Prices | None = Field(
        None, description="Money for a million tokens, e.g. {prompt: 0.15, completion: 0.6}."
    )
    timeout: float = Field(120.0, gt=0, description="Seconds before a request is tried again.")
    retries: int = Field(5, ge=0, description="Tries again after a failed request.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Engine-specific options (offline: blemish rates)."
    )

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str | None) -> str | None:
        if value is not None and private_parts(value):
            raise PydanticCustomError(
                HIDDEN,
                "an address holds no user, password, query (?…) or fragment (#…) here, since "
                "recipes are copied into run folders; name the environment variable that holds "
                "the key in api_key_env, and put further request fields into options.extra_body",
            )
        return value

    @field_validator("api_key_env")
    @classmethod
    def _variable_name(cls, value: str) -> str:
        if not _VARIABLE.fullmatch(value):
            raise PydanticCustomError(
                HIDDEN,
                "this is no name of an environment variable (letters, digits and _); the key "
                "itself stays out of the recipe",
            )
        return value

    @field_validator("options")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        place = secret_place(value, "options")
        if place is not None:
            raise PydanticCustomError(
                HIDDEN,
                "'{place}' looks like a secret, and recipes are copied into run folders; name "
                "the environment variable that holds it in api_key_env instead",
                {"place": place},
            )
        return value

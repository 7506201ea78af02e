"""What goes over the wire: requests and answers of the scoring service, one definition for server and client.

Character positions count Unicode code points of the response (Python's `len`), not UTF-16 units or bytes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    Tag,
    model_validator,
)

from wmtp_ray.config.serve import MOST_ITEMS

T = TypeVar("T")
LARGEST_ID = 2**31 - 1


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half of a surrogate pair, which is no text") from None
    return text


Text = Annotated[str, AfterValidator(_encodable)]
"""JSON can write half a surrogate pair, which no tokenizer reads."""


class Wire(BaseModel):
    """Frozen; unknown keys are refused, so that a misspelt option is no silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


Several = Annotated[list[T], Field(min_length=1, max_length=MOST_ITEMS), FailFast()]
"""At least one, of which the first fault is reported alone: a request has as many as it has bytes."""


class RequestPart(Wire):
    """What comes from outside. An object with more keys than it knows is one fault, whatever they are."""

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > len(cls.model_fields):
            raise ValueError(f"there are {len(given)} keys, but only {', '.join(cls.model_fields)} are known")
        return given


class InstructionItem(RequestPart):
    """A task and its solution; the service renders the prompt that training uses and appends the end of sequence."""

    instruction: Text
    input: Text = ""
    response: Text


class PromptItem(RequestPart):
    """A prompt as the model sees it, and its continuation; the end of sequence is appended."""

    prompt: Text
    response: Text


class TokenItem(RequestPart):
    """Token ids as they are: nothing is added, `token_ids[:response_start]` is the prompt."""

    token_ids: Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_ID)]], Field(min_length=1), FailFast()]
    response_start: Annotated[int, Field(ge=0, le=LARGEST_ID)]


def _kind(item: Any) -> str:
    keys = item if isinstance(item, dict) else getattr(item, "model_fields_set", ())
    return next(
        (tag for tag, key in (("tokens", "token_ids"), ("prompt", "prompt")) if key in keys), "instruction"
    )


Item = Annotated[
    Annotated[InstructionItem, Tag("instruction")]
    | Annotated[PromptItem, Tag("prompt")]
    | Annotated[TokenItem, Tag("tokens")],
    Discriminator(_kind),
]


class Options(RequestPart):
    """From values to weights, as in a training configuration. Null = what the service is configured to (`/v1/info`)."""

    gamma: Annotated[float | None, Field(gt=0, le=1)] = None
    """Discount; a ranking critic takes 1 only."""
    lam: Annotated[float | None, Field(ge=0, le=1)] = None
    credit: Literal["change", "level"] | None = None
    """Credit a token by the change of V at it or, with a ranking critic, by how far V stands above its mean."""
    first_token: Literal["prompt_value", "initial_value", "zero"] | None = None
    initial_value: Annotated[float | None, Field(ge=-1e6, le=1e6)] = None
    beta: Annotated[float | None, Field(ge=1e-6, le=1e6)] = None
    min_weight: Annotated[float | None, Field(ge=0, le=1e6)] = None
    max_weight: Annotated[float | None, Field(gt=0, le=1e6)] = None
    normalize: Literal["none", "mean_one"] | None = None
    """`mean_one` divides by the mean weight over all response tokens of the request."""
    eos_weight: Literal["method", "one"] | None = None
    statistics: Literal["batch", "ema", "given"] = "batch"
    """Whiten by mean and unbiased deviation of this request's advantages, by those of the training run that the
    service names, or by `mean` and `std`."""
    mean: Annotated[float | None, Field(ge=-1e6, le=1e6)] = None
    std: Annotated[float | None, Field(ge=0, le=1e6)] = None
    truncate: bool = False
    """Cut an item that is too long on the right, and say so; otherwise it is refused. So is, always, a text of more
    characters than the tokens of an item could be."""


class ScoreRequest(RequestPart):
    """One or many items; statistics and normalisation are over all of them together."""

    items: Several[Item]
    options: Options = Options()


class RankRequest(RequestPart):
    """Several responses to one instruction."""

    instruction: Text
    input: Text = ""
    responses: Several[Text]
    truncate: bool = False


class PackedSample(RequestPart):
    """A sample of a packed row."""

    token_ids: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]
    """Base64 of the ids as little-endian int32."""
    response_start: Annotated[int, Field(ge=0, le=LARGEST_ID)]


class ValuesRequest(RequestPart):
    """One packed micro-batch: rows of samples, scored in one forward exactly as they are packed."""

    rows: Several[Several[PackedSample]]


class CriticIdentity(Wire):
    """Which critic answered."""

    fingerprint: str
    """SHA-256 of its export, or of that and the dtype where it is served in another than it was trained in."""
    version: str
    dtype: str
    tokenizer_fingerprint: str


class TokenScore(Wire):
    """A response token."""

    token_id: int
    piece: str
    """The text it adds: all pieces together are the response. Empty where it only completes a character that an
    earlier token began, and for the end of sequence."""
    start: int
    """First character of the response that it has a part in."""
    end: int
    """One past the last such character."""
    value: float
    """V after reading it."""
    advantage: float
    weight: float


class ItemScore(Wire):
    """An item of the request, in the request's order."""

    response: str
    """The text that the positions refer to: as sent, cut if truncated, or decoded from the ids."""
    mean_value: float
    """Mean of V over the response tokens: what pairs are ranked by."""
    prompt_value: float | None
    """V at the last prompt token; null where there is no prompt."""
    truncated: bool
    prompt_tokens: int
    response_tokens: int
    tokens: list[TokenScore]


class WhiteningStatistics(Wire):
    """What the advantages were whitened by; null where one token has no deviation and weighs 1."""

    source: Literal["batch", "ema", "given"]
    mean: float | None
    std: float | None


class ScoreAnswer(Wire):
    """Scores of all items."""

    critic: CriticIdentity
    statistics: WhiteningStatistics
    items: list[ItemScore]


class RankedResponse(Wire):
    """A response in the order of preference."""

    index: int
    """Its place in the request."""
    mean_value: float
    truncated: bool
    response_tokens: int


class RankAnswer(Wire):
    """Best first."""

    critic: CriticIdentity
    ranking: list[RankedResponse]
    probabilities: list[list[float]] | None
    """[i][j]: P(response i is better than response j), by place in the request: the logistic function of the
    difference of mean values, as the ranking loss defines it. Null from a critic that was not trained by ranking, whose
    values are no log-odds."""


class ValuesAnswer(Wire):
    """Raw values of each sample, row by row."""

    critic: CriticIdentity
    values: list[str]
    """Base64 of float32, little-endian: the value at the last prompt token (absent where the response starts the
    sequence), then one per response token."""


class ProblemCause(Wire):
    """One fault in a request."""

    pointer: str
    """Where, as a JSON pointer."""
    detail: str


PROBLEM = "urn:wmtp:problem:"
TIMED_OUT = "timed-out"
"""The problem of a request that takes longer than the service lets any take: it would again."""


class ProblemDocument(BaseModel):
    """RFC 9457."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    type: str
    """`urn:wmtp:problem:` and a name that does not change."""
    title: str
    status: int
    detail: str
    errors: list[ProblemCause] = []

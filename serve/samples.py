"""From the items of a request to samples as training tokenises them, and the text that each token stands for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from serve.critic import ServedCritic
from serve.pieces import Pieces, pieces_of_ids, pieces_of_text
from serve.problems import unusable
from wmtp_ray.client.base64_arrays import decode_array
from wmtp_ray.client.wire import InstructionItem, Item, PromptItem, TokenItem, ValuesRequest
from wmtp_ray.config.serve import ServeLimitsConfig
from wmtp_ray.data.prompt import (
    TokenizedSample,
    encode_text,
    eos_id,
    join_sample,
    render_prompt,
    tokenize_prompt,
)


@dataclass(frozen=True)
class Prepared:
    """An item, ready to be scored. `response` is None for ids, whose text is decoded when it is needed."""

    sample: TokenizedSample
    response: str | None

    def pieces(self, critic: ServedCritic) -> Pieces:
        """Text and characters of the response tokens. The end of sequence has no character."""
        ids = self.sample.token_ids[self.sample.response_start :].tolist()
        if self.response is None:
            return pieces_of_ids(critic.tokenizer, ids)
        written = ids if self.sample.truncated else ids[:-1]
        pieces = pieces_of_text(critic.tokenizer, self.response, len(written))
        end = len(pieces.text)
        extra = len(ids) - len(pieces.spans)
        return Pieces(pieces.text, [*pieces.spans, *[(end, end)] * extra], [*pieces.texts, *[""] * extra])


class Preparer:
    """Tokenises with one critic's tokenizer under one configuration's limits; refusals are 422, with a pointer."""

    def __init__(self, critic: ServedCritic, limits: ServeLimitsConfig) -> None:
        self._critic, self._limits = critic, limits
        self.item_tokens = min(critic.max_tokens, limits.item_tokens or critic.max_tokens)
        self._longest_token = max(map(len, critic.tokenizer.get_vocab()))

    def items(self, items: list[Item], truncate: bool) -> list[Prepared]:
        """Every item of a request."""
        self._require_few(len(items), "/items")
        return self._within_request(
            self._item(item, truncate, number, f"/items/{number}") for number, item in enumerate(items)
        )

    def responses(self, instruction: str, input: str, responses: list[str], truncate: bool) -> list[Prepared]:
        """Several responses to one instruction; its prompt is tokenised once."""
        self._require_few(len(responses), "/responses")
        prompt = self._prompt(render_prompt(instruction, input), "/instruction")
        return self._within_request(
            self._text(prompt, text, truncate, number, f"/responses/{number}")
            for number, text in enumerate(responses)
        )

    def rows(self, request: ValuesRequest) -> list[list[TokenizedSample]]:
        """The packed rows of a micro-batch. Their tokens are counted with padding: that is what is computed."""
        self._require_few(sum(map(len, request.rows)), "/rows")
        rows: list[list[TokenizedSample]] = []
        for r, row in enumerate(request.rows):
            rows.append([])
            for s, packed in enumerate(row):
                pointer = f"/rows/{r}/{s}"
                try:
                    ids = decode_array(packed.token_ids, "<i4")
                except ValueError as error:
                    raise unusable(
                        f"token_ids is not base64 of int32: {error}", f"{pointer}/token_ids"
                    ) from None
                rows[-1].append(self._ids(ids, packed.response_start, False, len(rows), pointer).sample)
        widest = max(sum(len(s.token_ids) for s in row) for row in rows)
        if widest * len(rows) > self._limits.request_tokens:
            raise unusable(
                f"{len(rows)} rows of {widest} tokens are more than the {self._limits.request_tokens} a request may "
                "have; send smaller batches",
                "/rows",
            )
        return rows

    def _item(self, item: Item, truncate: bool, number: int, pointer: str) -> Prepared:
        if isinstance(item, TokenItem):
            ids = np.asarray(item.token_ids, dtype=np.int32)
            return self._ids(ids, item.response_start, truncate, number, pointer)
        if isinstance(item, InstructionItem):
            prompt = self._prompt(render_prompt(item.instruction, item.input), f"{pointer}/instruction")
        else:
            assert isinstance(item, PromptItem)
            prompt = self._prompt(item.prompt, f"{pointer}/prompt")
        return self._text(prompt, item.response, truncate, number, f"{pointer}/response")

    def _prompt(self, text: str, pointer: str) -> list[int]:
        self._require_tokenisable(text, pointer)
        return tokenize_prompt(self._critic.tokenizer, text)

    def _text(self, prompt: list[int], response: str, truncate: bool, number: int, pointer: str) -> Prepared:
        self._require_tokenisable(response, pointer)
        tokenizer = self._critic.tokenizer
        ids = encode_text(tokenizer, [response])[0]
        if not ids:
            raise unusable("the response is empty; give at least one token", pointer)
        self._require_fit(len(prompt), len(prompt) + len(ids) + 1, truncate, pointer)
        sample = join_sample(
            sample_id=number,
            prompt_ids=prompt,
            response_ids=ids,
            eos=eos_id(tokenizer),
            max_length=self.item_tokens,
        )
        return Prepared(sample, response)

    def _ids(
        self, ids: np.ndarray, response_start: int, truncate: bool, number: int, pointer: str
    ) -> Prepared:
        if len(ids) == 0:
            raise unusable("there are no token ids; give at least one", f"{pointer}/token_ids")
        if (unknown := ids[(ids < 0) | (ids >= self._critic.vocabulary)]).size:
            raise unusable(
                f"token id {unknown[0]} is not one of this critic's, 0 to {self._critic.vocabulary - 1}; use its "
                "tokenizer",
                f"{pointer}/token_ids",
            )
        if response_start >= len(ids):
            raise unusable(
                f"response_start is {response_start} and there are {len(ids)} tokens; at least one must be response",
                f"{pointer}/response_start",
            )
        self._require_fit(response_start, len(ids), truncate, f"{pointer}/token_ids")
        truncated = len(ids) > self.item_tokens
        return Prepared(TokenizedSample(number, ids[: self.item_tokens], response_start, truncated), None)

    def _require_few(self, count: int, pointer: str) -> None:
        if count > self._limits.items:
            raise unusable(
                f"{count} items are more than the {self._limits.items} a request may have; send several requests",
                pointer,
            )

    def _require_tokenisable(self, text: str, pointer: str) -> None:
        """Before the time is spent: a longer text has more tokens than an item, whichever they are (if the tokenizer
        drops no characters). It is not cut instead: a part of a text need not begin with the same tokens."""
        most = self.item_tokens * self._longest_token
        if len(text) > most:
            raise unusable(
                f"the text has {len(text)} characters and may have {most}, the most that {self.item_tokens} tokens "
                "can be; shorten it",
                pointer,
            )

    def _require_fit(self, prompt_tokens: int, tokens: int, truncate: bool, pointer: str) -> None:
        if prompt_tokens >= self.item_tokens:
            raise unusable(
                f"the prompt alone has {prompt_tokens} tokens and an item may have {self.item_tokens}; shorten it",
                pointer,
            )
        if tokens > self.item_tokens and not truncate:
            raise unusable(
                f"the item has {tokens} tokens and may have {self.item_tokens}; shorten it, or cut it with truncate: "
                "true",
                pointer,
            )

    def _within_request(self, items: Iterable[Prepared]) -> list[Prepared]:
        """All of them; none is tokenised beyond the first that is too much."""
        prepared: list[Prepared] = []
        tokens = 0
        for item in items:
            prepared.append(item)
            tokens += len(item.sample.token_ids)
            if tokens > self._limits.request_tokens:
                raise unusable(
                    f"the first {len(prepared)} items have {tokens} tokens together and a request may have "
                    f"{self._limits.request_tokens}; send several requests",
                    "",
                )
        return prepared

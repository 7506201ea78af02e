"""vLLM in an actor: draws samples from one base model and, by LoRA requests, from any number of its adapters.

The engine lives in the actor's own process. If it fails, its state is unknown, so the process ends: Ray
starts another in its place and the caller asks again for what it did not get.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import Any, Literal

from actors.measures import SamplerMeasures
from wmtp_ray.data.prompt import tokenize_prompt
from wmtp_ray.errors import DataError, InfraError
from wmtp_ray.evaluation.sampling import Completion, Decoding, Request

logger = logging.getLogger(__name__)
LORA_RANKS = (8, 16, 32, 64, 128, 256, 512)
"""Ranks that vLLM makes room for."""
SECONDS_TO_TELL = 1.0
"""Left to the reason of a failure to reach the caller before the process ends."""


@dataclass(frozen=True)
class EngineSettings:
    """One engine: a plain Hugging Face directory and how it is run."""

    model: str
    dtype: str
    threads: int = 1
    tensor_parallel: int = 1
    max_length: int | None = None
    """Prompt and answer together, in tokens; None = what the model was made for."""
    max_batch: int = 32
    """Sequences decoded together."""
    cache_gb: int = 1
    """Memory for keys and values, on CPU."""
    gpu_memory_share: float = 0.9
    long_prompts: Literal["refuse", "unsolved"] = "refuse"
    """What a prompt without room for an answer is: an error, or an empty sample that counts as cut."""
    lora_rank: int | None = None
    """The largest rank among the adapters that will be asked for; None = there are none."""


class SamplerActor:
    """Draws samples with one vLLM engine."""

    def __init__(self, settings: EngineSettings) -> None:
        os.environ.update(
            VLLM_ENABLE_V1_MULTIPROCESSING="0",  # a dead engine is then a dead actor, which Ray notices
            VLLM_CPU_KVCACHE_SPACE=str(settings.cache_gb),
            VLLM_CPU_OMP_THREADS_BIND="nobind",  # two actors on one machine would bind to the same cores
            VLLM_LOGGING_LEVEL=os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
            VLLM_NO_USAGE_STATS="1",
            OMP_NUM_THREADS=str(settings.threads),
        )
        import torch
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from wmtp_ray.models import load_tokenizer

        torch.set_num_threads(settings.threads)
        arguments: dict[str, Any] = {}
        if settings.lora_rank is not None:
            room = next(rank for rank in LORA_RANKS if rank >= settings.lora_rank)
            arguments |= {"enable_lora": True, "max_lora_rank": room, "max_loras": 1}
        if settings.max_length is not None:
            arguments |= {"max_model_len": settings.max_length}
        if torch.cuda.is_available():
            arguments |= {"gpu_memory_utilization": settings.gpu_memory_share}
        else:
            # A prompt read in parts makes vLLM rewind a seeded generator, which generators on CPU cannot.
            arguments |= {"enable_chunked_prefill": False}
        self._engine = LLMEngine.from_engine_args(
            EngineArgs(
                model=settings.model,
                dtype=settings.dtype,  # pyright: ignore[reportArgumentType]  # a Literal of vLLM's
                max_num_seqs=settings.max_batch,
                tensor_parallel_size=settings.tensor_parallel,
                enforce_eager=not torch.cuda.is_available(),
                disable_log_stats=True,
                **arguments,
            )
        )
        self._max_length: int = self._engine.model_config.max_model_len
        self._long_prompts = settings.long_prompts
        self._tokenizer = load_tokenizer(settings.model)
        self._adapters: dict[str, int] = {}
        self._measures = SamplerMeasures()

    def sample(
        self, requests: list[Request], decoding: Decoding, adapter: str | None = None
    ) -> Iterator[Completion]:
        """Completions as they are finished, in no particular order. Call it with `num_returns="streaming"`.

        `adapter` is a PEFT directory, None the base model. Raises `DataError` for a prompt that leaves no
        room for an answer, unless `long_prompts` says otherwise; any failure of the engine is an `InfraError`
        and ends this process.
        """
        prompts = [tokenize_prompt(self._tokenizer, request.prompt) for request in requests]
        fitting = [self._fits(request, ids) for request, ids in zip(requests, prompts, strict=True)]
        for request in (r for r, fits in zip(requests, fitting, strict=True) if not fits):
            yield Completion(request.benchmark, request.problem_id, request.sample, "", 0, cut=True)
        requests, prompts = list(compress(requests, fitting)), list(compress(prompts, fitting))
        try:
            self._submit(requests, prompts, decoding, adapter)
            while self._engine.has_unfinished_requests():
                for output in self._engine.step():
                    if output.finished:
                        completion = self._completion(requests[int(output.request_id)], output)
                        self._measures.finished(completion, self._engine.get_num_unfinished_requests())
                        yield completion
        except Exception as error:  # the edge of this process: nothing is known of the engine any more
            logger.exception("the sampling engine failed; its actor ends")
            threading.Timer(SECONDS_TO_TELL, os._exit, (1,)).start()
            raise InfraError(f"{type(error).__name__}: {error}") from None

    def _fits(self, request: Request, prompt_ids: list[int]) -> bool:
        if len(prompt_ids) < self._max_length:
            return True
        if self._long_prompts == "refuse":
            raise DataError(
                f"{request.benchmark} problem {request.problem_id}: its prompt has {len(prompt_ids)} tokens and the "
                f"engine takes {self._max_length}; raise engine.max_length, or count such problems as not solved with "
                "engine.long_prompts=unsolved"
            )
        return False

    def _submit(
        self, requests: list[Request], prompts: list[list[int]], decoding: Decoding, adapter: str | None
    ) -> None:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt

        lora = self._lora_request(adapter)
        for number, (request, ids) in enumerate(zip(requests, prompts, strict=True)):
            parameters = SamplingParams(
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                max_tokens=min(decoding.max_tokens, self._max_length - len(ids)),
                seed=request.seed,
                stop=list(request.stops),
            )
            prompt = TokensPrompt(prompt_token_ids=ids)
            self._engine.add_request(str(number), prompt, parameters, lora_request=lora)

    def _lora_request(self, adapter: str | None) -> Any:
        from vllm.lora.request import LoRARequest

        if adapter is None:
            return None
        number = self._adapters.setdefault(adapter, len(self._adapters) + 1)
        return LoRARequest(f"adapter-{number}", number, adapter)

    def _completion(self, request: Request, output: Any) -> Completion:
        [answer] = output.outputs
        return Completion(
            benchmark=request.benchmark,
            problem_id=request.problem_id,
            sample=request.sample,
            text=answer.text,
            tokens=len(answer.token_ids),
            cut=answer.finish_reason == "length",
        )

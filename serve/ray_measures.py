"""The service's metrics, through Ray: every node's agent exports them (as `ray_wmtp_...`), `/metrics` gathers all."""

from __future__ import annotations

import asyncio

import httpx
import ray
from ray.util.metrics import Counter, Gauge, Histogram

from serve.batcher import Forward

PREFIX = "ray_wmtp_"
SCRAPE_SECONDS = 5.0
SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]


class RayMeasures:
    """Implements `Measures`."""

    def __init__(self) -> None:
        self._answers = Counter(
            "wmtp_serve_answers", "Answers of the scoring service.", tag_keys=("operation", "status")
        )
        self._seconds = Histogram(
            "wmtp_serve_answer_seconds",
            "Time from a request's arrival at a replica to its answer.",
            boundaries=SECONDS,
            tag_keys=("operation",),
        )
        self._tokens = Counter("wmtp_serve_tokens", "Tokens that passed through the critic.")
        self._samples = Counter("wmtp_serve_samples", "Samples that passed through the critic.")
        self._forwards = Counter("wmtp_serve_forwards", "Forward passes of the critic.")
        self._busy = Counter("wmtp_serve_forward_busy_seconds", "Time spent in forward passes.")
        self._waited = Gauge(
            "wmtp_serve_queue_wait_seconds", "How long the oldest sample of the last batch waited."
        )

    def forward(self, forward: Forward) -> None:
        self._tokens.inc(forward.tokens)
        self._samples.inc(forward.samples)
        self._forwards.inc()
        self._busy.inc(max(forward.seconds, 1e-9))
        self._waited.set(forward.oldest_waited)

    def answer(self, operation: str, status: int, seconds: float) -> None:
        self._answers.inc(tags={"operation": operation, "status": str(status)})
        self._seconds.observe(seconds, tags={"operation": operation})

    async def exposition(self) -> str:
        """This project's metrics from the agents of all nodes; a node that does not answer is said so in a comment."""
        nodes = [node for node in ray.nodes() if node["Alive"]]
        async with httpx.AsyncClient(timeout=SCRAPE_SECONDS, trust_env=False) as client:
            texts = await asyncio.gather(*(_scrape(client, node) for node in nodes))
        return own_metrics("\n".join(texts))


async def _scrape(client: httpx.AsyncClient, node: dict) -> str:
    address, port = node["NodeManagerAddress"], node["MetricsExportPort"]
    try:
        answer = await client.get(f"http://{address}:{port}/metrics")
        answer.raise_for_status()
    except httpx.HTTPError as error:
        return f"# the metrics of node {address} are missing: {type(error).__name__}"
    return answer.text


def own_metrics(text: str) -> str:
    """The lines of this project's metrics, each name's samples together under one HELP and TYPE."""
    families: dict[str, list[str]] = {}
    lost = []
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            kind, name = line.split(" ", 3)[1:3]
            heads = families.setdefault(name, []) if name.startswith(PREFIX) else []
            if not any(head.startswith(f"# {kind} ") for head in heads):
                heads.append(line)
        elif line.startswith(PREFIX):
            name = line.partition("{")[0].partition(" ")[0]
            family = next((f for f in (name, name.rsplit("_", 1)[0]) if f in families), name)
            families.setdefault(family, []).append(line)
        elif line.startswith("# the metrics of node"):
            lost.append(line)
    return "\n".join([*lost, *(line for lines in families.values() for line in lines), ""])

"""A driver that serves one critic and, told so on its standard input, rolls in another.

python -m tests.serve.rolling ROOT PORT     then a line with the run of the next critic
"""

from __future__ import annotations

import sys
from itertools import chain

from ray import serve
from ray.serve.config import HTTPOptions

from serve.deployment import critic_application
from wmtp_ray.cluster.connect import connected
from wmtp_ray.config.serve import ServeConfig


def main(root: str, port: str) -> None:
    with connected({"CPU": 3}):
        serve.start(http_options=HTTPOptions(port=int(port)))
        for run in chain(["quickstart"], map(str.strip, sys.stdin)):
            config = ServeConfig.model_validate({"storage": {"root": root}, "critic": {"run": run}})
            serve.run(critic_application(config, num_replicas=2), name="critic")
        serve.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

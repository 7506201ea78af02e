"""The application of `serve run serve.app:app` and `serve/config.yaml`.

    serve run serve.app:app                     # the quickstart's critic under ~/wmtp
    WMTP_SERVE_CONFIG=FILE serve run serve.app:app
    serve deploy serve/config.yaml              # on a cluster; again with another critic: rolls it in

`WMTP_SERVE_CONFIG` names a YAML file of a `ServeConfig`; in `serve/config.yaml` the `user_config` takes its
place.
"""

from __future__ import annotations

import os

from serve.deployment import critic_application
from wmtp_ray.config.load import load_config, validate_overrides
from wmtp_ray.config.serve import ServeConfig

_file = os.environ.get("WMTP_SERVE_CONFIG")
app = critic_application(load_config(ServeConfig, _file) if _file else validate_overrides(ServeConfig, []))

"""A small data set of Python programs whose labels are found by running tests.

`spec` says how a problem is written, `problems` holds them, `rewrites` and `mutation` make programs of their
references, `labelling` runs them, `source` is what the rest of the library reads, `style` measures what layout alone
gives away.
"""

from wmtp_ray.data.sources.mini.source import MiniSource

__all__ = ["MiniSource"]

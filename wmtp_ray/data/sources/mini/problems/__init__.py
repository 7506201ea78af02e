"""The problems of the mini data set, one module per family."""

from __future__ import annotations

import importlib
import pkgutil

from wmtp_ray.data.sources.mini.spec import MiniProblem
from wmtp_ray.errors import DataError


def load_families() -> dict[str, tuple[MiniProblem, ...]]:
    """Every family's problems, families in the order of their module names.

    Raises:
        DataError: two families or two problems share a name.
    """
    families: dict[str, tuple[MiniProblem, ...]] = {}
    seen: set[str] = set()
    for module_name in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        module = importlib.import_module(f"{__name__}.{module_name}")
        names = [problem.name for problem in module.PROBLEMS]
        repeated = sorted({name for name in names if names.count(name) > 1 or name in seen})
        if module.FAMILY in families or repeated:
            raise DataError(
                f"mini problems: family {module.FAMILY!r} of {module.__name__} repeats its own name "
                f"or the problems {repeated}; every name must be unique"
            )
        seen.update(names)
        families[module.FAMILY] = tuple(module.PROBLEMS)
    return families

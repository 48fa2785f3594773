"""Faults at the entry of any function, without a hook in the product: the interpreter's monitoring raises them.

A callback of `sys.monitoring` that raises at the start of a function is as if the function's first line had raised.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

_TOOL = 4
_START = sys.monitoring.events.PY_START


def modules(package: str) -> Iterator[ModuleType]:
    """Yield the modules of a package."""
    root = importlib.import_module(package)
    yield root
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        yield importlib.import_module(found.name)


def functions(module: ModuleType) -> dict[str, CodeType]:
    """Return the code of everything that a module defines and that can be called, by name."""
    found: dict[str, CodeType] = {}
    for value in vars(module).values():
        for function in _callables(value, module.__name__):
            _collect(function.__code__, module.__name__, found)
    return found


def waiting_functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Yield the coroutine functions that a module defines."""
    for value in vars(module).values():
        for function in _callables(value, module.__name__):
            if inspect.iscoroutinefunction(function) and isinstance(function, FunctionType):
                yield f"{module.__name__}.{function.__qualname__}", function


def _callables(value: object, module: str) -> Iterator[Any]:
    value = inspect.unwrap(value) if callable(value) else value
    if isinstance(value, functools.cached_property):
        value = value.func
    if inspect.isfunction(value):
        if value.__code__.co_filename == sys.modules[module].__file__:
            yield value
    elif isinstance(value, property):
        for function in (value.fget, value.fset):
            if function is not None:
                yield from _callables(function, module)
    elif isinstance(value, staticmethod | classmethod):
        yield from _callables(value.__func__, module)
    elif inspect.isclass(value) and value.__module__ == module:
        for each in vars(value).values():
            if not inspect.isclass(each):
                yield from _callables(each, module)


def _collect(code: CodeType, module: str, found: dict[str, CodeType]) -> None:
    found[f"{module}.{code.co_qualname}"] = code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            _collect(each, module, found)


class Injector:
    """Watches and breaks functions, one set at a time. One per process."""

    def __init__(self) -> None:
        sys.monitoring.use_tool_id(_TOOL, "faults")
        sys.monitoring.register_callback(_TOOL, _START, self._started)
        self._armed: tuple[CodeType, ...] = ()
        self._act: Callable[[CodeType], None] = lambda _: None
        self.hits = 0

    def close(self) -> None:
        """Watch no more."""
        self.disarm()
        sys.monitoring.free_tool_id(_TOOL)

    def arm(self, codes: Iterable[CodeType], act: Callable[[CodeType], None]) -> None:
        """Call `act` whenever one of these begins; what it raises, the function raises."""
        self.hits = 0
        self._act = act
        self._armed = tuple(codes)
        for code in self._armed:
            sys.monitoring.set_local_events(_TOOL, code, _START)

    def disarm(self) -> None:
        """Break nothing any more."""
        for code in self._armed:
            sys.monitoring.set_local_events(_TOOL, code, 0)
        self._armed = ()

    def _started(self, code: CodeType, _: int) -> None:
        self.hits += 1
        self._act(code)

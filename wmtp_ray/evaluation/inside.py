"""What runs inside the sandbox. It is compiled outside, after the source of `exchange`, and comes with the task.

The process gets its task on a file descriptor, drops to an unprivileged user, limits itself, reports `READY`
on standard error, and only then touches the program. Nothing here is a secret and nothing here decides:
expected results and verdicts stay outside (`verify`).

Modes: `call` evaluates call expressions and sends encoded results; `stdio` runs the program as `__main__`;
`serve` loads the program and answers requests; `tests` runs test code whose names are proxies of a `serve`
process in another sandbox.
"""

from __future__ import annotations

import builtins
import os
import resource
import sys
from typing import Any  # outside only

from wmtp_ray.evaluation.exchange import decode, encode  # outside only: inside, `exchange` comes first

READY = b"\x06ready\n"


def restrict(limits, user):
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), tuple(value))
    os.write(2, READY)


def describe(error):
    try:
        text = str(error)
    except BaseException:
        text = "(its text raised)"
    frame, line = error.__traceback__, None
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "program.py":
            line = frame.tb_lineno
        frame = frame.tb_next
    place = "" if line is None else " (line " + str(line) + ")"
    return type(error).__name__ + ": " + text[:300] + place


def send(descriptor, text):
    data = text.replace("\n", " ").encode("utf-8", "replace") + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def load(task, name) -> dict[str, Any]:
    """The program as a module. `exit` and `quit` come from `site`, which is not loaded."""
    builtins.exit = builtins.quit = sys.exit
    module = type(sys)(name)
    sys.modules[name] = module
    sys.argv = ["program.py"]
    space = module.__dict__
    if task["setup"]:
        exec(compile(task["setup"], "setup.py", "exec", dont_inherit=True), space)
    exec(compile(task["program"], "program.py", "exec", dont_inherit=True), space)
    return space


def load_or_report(task, out):
    try:
        return load(task, "program")
    except SyntaxError as error:
        send(out, "S " + describe(error))
    except MemoryError:
        send(out, "M out of memory")
    except BaseException as error:
        send(out, "X " + describe(error))
    return None


def silence():
    """Standard streams become /dev/null; returns where standard output went."""
    out = os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    return out


def run_call(task):
    out = silence()
    space = load_or_report(task, out)
    if space is None:
        return
    for expression in task["calls"]:
        try:
            text = "V " + encode(eval(compile(expression, "call.py", "eval", dont_inherit=True), space))
        except MemoryError:
            text = "M out of memory"
        except BaseException as error:
            text = "E " + describe(error)
        send(out, text)
    os._exit(0)  # threads of the program shall not keep the sandbox waiting


def run_stdio(task):
    load(task, "__main__")


def run_serve(task):
    """Answers requests: one line in, one line out. Objects that are not plain stay here and travel as
    numbers."""
    silence()
    requests = os.fdopen(task["requests"], "rb")
    out = task["replies"]
    objects = []

    def keep(x):
        objects.append(x)
        return len(objects) - 1

    def known(name):
        return objects[int(name)] if name.isdigit() else getattr(builtins, name)

    space = load_or_report(task, out)
    if space is None:
        return
    send(out, "L")
    while line := requests.readline():
        try:
            verb, *arguments = decode(eval(line, {}), known)
            if verb == "name":
                if arguments[0] not in space:
                    send(out, "U")
                    continue
                result = space[arguments[0]]
            elif verb == "call":
                result = arguments[0](*arguments[1], **arguments[2])
            elif verb == "list":
                result = list(arguments[0])
            elif verb == "truth":
                result = bool(arguments[0])
            elif verb == "len":
                result = len(arguments[0])
            elif verb == "item":
                result = arguments[0][arguments[1]]
            else:
                result = getattr(arguments[0], arguments[1])
            text = "V " + encode(result, keep)
        except MemoryError:
            text = "M out of memory"
        except BaseException as error:
            text = "E " + type(error).__name__ + " " + describe(error)
        send(out, text)
    os._exit(0)


class ProgramGone(BaseException):
    """The program's process ended, ran out of memory, or answered with something that is no answer."""


class Program:
    """The other end of `run_serve`."""

    def __init__(self, task):
        self.requests = task["requests"]
        self.replies = os.fdopen(task["replies"], "rb")
        self.limit = task["reply_bytes"]

    def read(self):
        line = self.replies.readline(self.limit)
        if not line.endswith(b"\n"):
            raise ProgramGone("")
        verb, _, text = line[:-1].decode("utf-8", "replace").partition(" ")
        if verb in ("S", "X", "M"):
            raise ProgramGone(verb + " " + text)
        return verb, text

    def name(self, x):
        """What the program's side calls an object: its number there, or the name of a builtin."""
        if isinstance(x, Remote):
            return x._number
        if getattr(builtins, getattr(x, "__name__", ""), None) is x:
            return x.__name__
        raise TypeError("the tests pass a " + type(x).__name__ + ", which cannot be sent to the program")

    def ask(self, verb, *arguments) -> Any:
        import json

        try:
            send(self.requests, encode([verb, *arguments], self.name))
        except BrokenPipeError:
            raise ProgramGone("") from None
        kind, text = self.read()
        if kind == "V":
            try:
                return decode(json.loads(text), lambda number: Remote(self, int(number)))
            except (ValueError, TypeError, KeyError, IndexError, RecursionError):
                raise ProgramGone("X the program's process sent a malformed answer") from None
        if kind == "U":
            raise NameError(str(arguments[0]))
        name, _, message = text.partition(" ")
        known = getattr(builtins, name, None)
        # Of the tests: as in a generator (PEP 479), no call may end one.
        ends_loops = (StopIteration, StopAsyncIteration)
        if isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, ends_loops):
            try:
                raised = known(message)
            except TypeError:
                raised = RuntimeError(message)
            raise raised
        raise RuntimeError(message)


class Remote:
    """An object of the program that is not plain. It can be called, read, iterated, and asked whether it is true (a
    match of a regular expression is), but never compared: a comparison with an object whose methods the program
    wrote would let the program decide."""

    def __init__(self, program, number):
        self._program = program
        self._number = number

    def __call__(self, *arguments, **keywords):
        return self._program.ask("call", self, list(arguments), keywords)

    def __iter__(self):
        return iter(self._program.ask("list", self))

    def __len__(self):
        return self._program.ask("len", self)

    def __bool__(self):
        return self._program.ask("truth", self) is True

    def __getitem__(self, key):
        return self._program.ask("item", self, key)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._program.ask("attribute", self, name)

    def _refuse(self, *_):
        raise TypeError(
            "the program returned an object that is not made of builtin types; it cannot be compared"
        )

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _refuse


def names_of(code):
    found = set(code.co_names)
    for constant in code.co_consts:
        if type(constant) is type(code):
            found |= names_of(constant)
    return found


def run_tests(task):
    import json  # noqa: F401  (loaded before the clock of the first call)

    out = silence()
    program = Program(task)
    try:
        program.read()
        setup = compile(task["setup"], "setup.py", "exec", dont_inherit=True)
        tests = compile(task["tests"], "tests.py", "exec", dont_inherit=True)
        entry_point = task["entry_point"]
        space: dict[str, Any] = {"__name__": "__main__"}
        for name in sorted(names_of(setup) | names_of(tests) | ({entry_point} if entry_point else set())):
            if not hasattr(builtins, name) or name == entry_point:
                try:
                    space[name] = program.ask("name", name)
                except NameError:
                    continue
        candidate = space.get(entry_point)
        exec(setup, space)
        if entry_point:
            if candidate is None:
                raise NameError("the program does not define " + entry_point)
            space[entry_point] = candidate
        exec(tests, space)
        if task["check"]:
            space["check"](candidate)
    except ProgramGone as gone:
        send(out, "G " + str(gone))
    except AssertionError as error:
        send(out, "A " + describe(error))
    except BaseException as error:
        send(out, "E " + describe(error))
    else:
        send(out, "D")


def main(task):
    restrict(task["limits"], task["user"])
    {"call": run_call, "stdio": run_stdio, "serve": run_serve, "tests": run_tests}[task["mode"]](task)

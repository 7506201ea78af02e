"""Programs that try to pass without solving, to break out, or to break the judge. All are asked for f(x) = x + 1."""

from __future__ import annotations

QUICK = {
    "exit": "exit(0)",
    "sys.exit at import": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "exit inside the call": "def f(x):\n    raise SystemExit(0)",
    "os._exit inside the call": "import os\ndef f(x):\n    os._exit(0)",
    "sys.exit in atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x):\n    return 0",
    "sys.exit in atexit, results forgotten": (
        "import atexit, sys\natexit.register(sys.exit, 0)\ndef f(x):\n    return None"
    ),
    "closing stdout": (
        "import os, sys\nsys.stdout.close()\nsys.stdout = None\nos.close(2)\ndef f(x):\n    return 0"
    ),
    "reading the judge's files": (
        "import os\ndef f(x):\n    for n in range(64):\n        try:\n            text = os.pread(n, 1 << 20, 0)\n"
        "        except OSError:\n            continue\n        if b'42' in text: return x + 1\n    return 0"
    ),
    "deleting the temporary directory": (
        "import os, shutil\nos.chdir('/')\nshutil.rmtree('/tmp', ignore_errors=True)\ndef f(x):\n    return 0"
    ),
    "a zip bomb on disk": (
        "import io, zipfile\ndef f(x):\n    bomb = io.BytesIO()\n"
        "    with zipfile.ZipFile(bomb, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('b', bytes(1 << 26))\n"
        "    zipfile.ZipFile(bomb).extractall('/tmp')\n    return x + 1"
    ),
    "always equal int": (
        "class Yes(int):\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    __hash__ = int.__hash__\ndef f(x):\n    return Yes(0)"
    ),
    "always equal object": (
        "class Yes:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n"
        "    def __bool__(self): return True\ndef f(x):\n    return Yes()"
    ),
    "disguised type": (
        "class Yes:\n    __class__ = int\n    def __eq__(self, other): return True\ndef f(x):\n    return Yes()"
    ),
    "pass markers on stdout": (
        "for line in ('D', 'V [\"i\",\"0x2\"]', 'passed'):\n    print(line, flush=True)\ndef f(x):\n    return 0"
    ),
    "pass markers on every descriptor": (
        'import os\nfor number in range(64):\n    try:\n        os.write(number, b\'D\\nL\\nV ["i","0x2"]\\n\' * 9)\n'
        "    except OSError:\n        pass\nos._exit(0)"
    ),
    "patched builtins": (
        "import builtins\nfor name in ('isinstance', 'repr', 'type', 'hex', 'eval', 'len', 'callable', 'hasattr'):\n"
        "    setattr(builtins, name, lambda *a, **k: True)\ndef f(x):\n    return 0"
    ),
    "AssertionError patched away": (
        "import builtins\nclass Quiet(Exception):\n    pass\nbuiltins.AssertionError = Quiet\ndef f(x):\n    return 0"
    ),
    "harness functions replaced": (
        "import sys\nmain = sys.modules['__main__'].__dict__\nfor name in ('encode', 'describe'):\n"
        "    main[name] = lambda *a, **k: '[\"i\",\"0x2\"]' if name == 'encode' else ''\ndef f(x):\n    return 0"
    ),
    "reading frames for expected values": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame is not None:\n"
        "        for value in (*frame.f_locals.values(), *frame.f_globals.values()):\n"
        "            if isinstance(value, dict) and 'expected' in value: return value['expected']\n"
        "        frame = frame.f_back\n    return 0"
    ),
    "searching the heap for expected values": (
        "import gc\ndef f(x):\n    for thing in gc.get_objects():\n"
        "        if isinstance(thing, dict) and 'expected' in thing: return thing['expected']\n    return 0"
    ),
    "closing every descriptor": "import os\nos.closerange(0, 1 << 16)\ndef f(x):\n    return x + 1\n",
    "signalling everyone": (
        "import os, signal\nfor pid in (1, os.getppid(), -1):\n    try:\n        os.kill(pid, signal.SIGKILL)\n"
        "    except OSError:\n        pass\ndef f(x):\n    return 0"
    ),
    "100 GB": "def f(x):\n    return bytearray(100 << 30)",
    "an int beyond floats": "def f(x):\n    return 10 ** 6000",
    "a raw answer nested too deep": (
        "import os\nfor n in range(3, 64):\n    try:\n        os.write(n, b'V ' + 900 * b'[\"l\",[' + b'\\n')\n"
        "        os.write(n, b'V ' + b'[\"l\",[' * 400 + b']]' * 400 + b'\\n')\n"
        "    except OSError:\n        pass\ndef f(x):\n    return 0"
    ),
    "a deep structure": "def f(x):\n    r = []\n    for _ in range(100000): r = [r]\n    return r",
    "a structure that holds itself": "def f(x):\n    r = []\n    r.append(r)\n    return r",
    "deep recursion": "def f(x):\n    return f(x) + 1",
    "segmentation fault": "import ctypes\ndef f(x):\n    return ctypes.string_at(0)",
    "null bytes": "def f(x):\n    return 0\n\0",
    "endless output": "def f(x):\n    while True: print('x' * 100000)",
    "raising BaseException": "class B(BaseException): pass\ndef f(x):\n    raise B()",
    "a generator": "def f(x):\n    yield x + 1",
    "replacing f's caller by trace": (
        "import sys\ndef hook(frame, event, arg):\n    frame.f_locals.clear()\n    return hook\nsys.settrace(hook)\n"
        "def f(x):\n    return 0"
    ),
}
"""End at once; none is a solution."""

SLOW = {
    "sleeping": "import time\ntime.sleep(1000)",
    "sleeping in the call": "import time\ndef f(x):\n    time.sleep(1000)",
    "spinning": "while True: pass",
    "stopping itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)",
    "a bomb of compressed zeros": (
        "import bz2\ndef f(x):\n    return len(bz2.decompress(bz2.compress(bytes(1 << 24)) * 64))"
    ),
    "files without end": (
        "import itertools\nfor n in itertools.count():\n    try:\n        open('/tmp/%d' % n, 'w').close()\n"
        "    except OSError:\n        pass"
    ),
    "ignoring signals": (
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True: pass"
    ),
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "daemon": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n"
        "    os._exit(0)\ndef f(x):\n    return 0"
    ),
    "threads that do not end": (
        "import threading, time\nfor _ in range(100):\n    try:\n"
        "        threading.Thread(target=time.sleep, args=(1000,)).start()\n    except RuntimeError:\n        break\n"
        "def f(x):\n    return 0"
    ),
    "memory by small pieces": "def f(x):\n    r = []\n    while True: r.append(bytearray(1 << 20))",
    "a huge integer as text": "import sys\nsys.set_int_max_str_digits(0)\ndef f(x):\n    return str(10 ** 10 ** 8)",
    "a catastrophic regular expression": "import re\ndef f(x):\n    return re.match('(a+)+$', 'a' * 64 + 'b')",
    "monkeypatched time": "import time\ntime.time = time.monotonic = lambda: 0.0\nwhile True: pass",
}
"""End by a limit of time or memory."""

C_LIBRARY = """
import ctypes
def c(name, *arguments):
    if getattr(ctypes.CDLL(None), name)(*arguments) < 0:
        raise OSError
"""
"""What some probes need: `c(name, ...)` calls a function of the C library."""

PROBES = {
    "password file": "open('/etc/passwd').read()",
    "home directory": "__import__('os').listdir('/root')",
    "checkout": "__import__('os').listdir('/home')",
    "process list": "__import__('os').listdir('/proc')",
    "environment of the judge": "dict(__import__('os').environ)['PATH']",
    "writing beside Python": "open('/python/lib/x', 'w')",
    "writing to the root": "open('/x', 'w')",
    "a symlink out of /tmp": "(__import__('os').symlink('/etc', '/tmp/e'), open('/tmp/e/passwd').read())",
    "a file beyond the limit": "open('/tmp/big', 'wb').write(bytes(64 << 20))",
    "internet socket": "__import__('socket').create_connection(('1.1.1.1', 53), 1)",
    "loopback of the machine": "__import__('socket').create_connection(('127.0.0.1', 22), 1)",
    "name lookup": "__import__('socket').getaddrinfo('example.org', 80)",
    "installed packages": "__import__('torch')",
    "becoming root": "__import__('os').setuid(0)",
    "a new user namespace": "c('unshare', 0x10000000)",
    "a new user namespace by clone": "c('syscall', 56, 0x10000000 | 17, 0, 0, 0, 0)",
    "mounting": "c('mount', b'x', b'/tmp', b'tmpfs', 0, 0)",
    "tracing the init process": "c('ptrace', 16, 1, 0, 0)",
    "io_uring": "c('syscall', 425, 8, bytes(120))",
    "BPF": "c('syscall', 321, 0, bytes(120), 120)",
    "the kernel's keys": "c('syscall', 250, 0, -3, 0)",
    "memory of no process": "c('shmget', 0, 4096, 0o1600)",
    "semaphores of no process": "c('semget', 0, 32000, 0o1600)",
    "messages of no process": "c('msgget', 0, 0o1600)",
    "a file of memory": "__import__('os').memfd_create('x')",
    "a file of secret memory": "c('syscall', 447, 0)",
    "100 open files": "[open('/dev/null') for _ in range(100)]",
}
"""Expressions that must raise inside the sandbox."""

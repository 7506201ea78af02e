"""From what a model wrote to a program: continue HumanEval's prompt, or take the response to an instruction."""

from __future__ import annotations

import io
import re
import tokenize

STATEMENT_STOPS = tuple(
    f"\n{start}"
    for start in (
        *(
            "def ",
            "class ",
            "if ",
            "for ",
            "while ",
            "with ",
            "try:",
            "print(",
            "import ",
            "from ",
            "assert ",
        ),
        *("@", "#", "```"),
    )
)
"""Stop strings of a completion: starts of lines that end a function, or (a comment, a fence) practically do. They only
save tokens; `continue_prompt` decides."""

RESPONSE_STOPS = ("\n### Instruction:", "\n### Input:", "\n### Response:")
"""Stop strings of a response: the model begins another sample."""

_LAYOUT = (
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.COMMENT,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)
_BLOCK = re.compile(
    r"^(?P<indent>[ \t]*+)[^`\n]*+```[ \t]*(?P<language>[^\s`]*)[^`\n]*\n"
    r"(?P<program>.*?)(?:^(?P=indent)(?P<end>```)[^\n]*|\Z)",
    re.DOTALL | re.MULTILINE,
)
"""A fenced block with both of its fences; the last one may lack its end."""
_PYTHON = ("", "python", "python3", "py")


def continue_prompt(prompt: str, completion: str) -> str:
    """`prompt + completion`, indentation kept, cut before the next top-level statement.

    A statement is top-level if it starts in column 0 of a line that begins after the prompt; lines inside
    brackets or multi-line strings start no statement. Text that stops being Python is kept from there on,
    unless a line in column 0 comes first: what follows a function is often prose.

    >>> continue_prompt("def f(x):\\n", "    return x\\n\\nprint(f(1))\\n")
    'def f(x):\\n    return x\\n\\n'
    """
    program = prompt + completion
    lines = _lines(program)
    first_line = prompt.count("\n") + (0 if prompt.endswith("\n") or not prompt else 1)
    cut = _next_statement(program, first_line)
    if cut is None:
        return program
    return "".join(lines[:cut])


def _lines(program: str) -> list[str]:
    """As the tokenizer of Python counts them: a form feed or U+2028 ends none."""
    return io.StringIO(program).readlines()


def _next_statement(program: str, first_line: int) -> int | None:
    """Number (from 0) of the first line ≥ `first_line` where a statement starts in column 0, or None."""
    reached, at_start = 0, True
    try:
        for token in tokenize.generate_tokens(io.StringIO(program).readline):
            reached = token.end[0]
            if token.type == tokenize.NEWLINE:
                at_start = True
            elif token.type not in _LAYOUT:
                if at_start and token.start[1] == 0 and token.start[0] - 1 >= first_line:
                    return token.start[0] - 1
                at_start = False
    except (
        tokenize.TokenError,
        SyntaxError,
    ):  # not Python from some line on; IndentationError is a SyntaxError
        lines = _lines(program)
        begin = max(first_line, reached)
        return next((n for n in range(begin, len(lines)) if re.match(r"[^\s#)\]}]", lines[n])), None)
    return None


def take_response(text: str) -> str:
    """The program in the response to an instruction: the first fenced block of Python or of no named language if there
    is one, else the whole text. One space before it is none of its own: tokenizers like Llama's begin every text with
    one.

    >>> take_response("```bash\\npip install x\\n```\\nThen:\\n```python\\nx = 1\\n```\\nDone.")
    'x = 1\\n'
    """
    kept = _before_stops(text)
    block = _python_block(kept)
    return block["program"].removesuffix("\n") + "\n" if block else kept


def response_is_whole(text: str) -> bool:
    """Whether the program in a response ends before the text does, so that a cut at the text's end missed it.

    >>> response_is_whole("```python\\nx = 1\\n```\\nThis sets"), response_is_whole("```python\\nx = 1\\ny =")
    (True, False)
    """
    kept = _before_stops(text)
    block = _python_block(kept)
    return len(kept) < len(text.removeprefix(" ")) or (block is not None and block["end"] is not None)


def _before_stops(text: str) -> str:
    for stop in RESPONSE_STOPS:
        text = text.split(stop, 1)[0]
    return text.removeprefix(" ")


def _python_block(text: str) -> re.Match[str] | None:
    return next((block for block in _BLOCK.finditer(text) if block["language"].lower() in _PYTHON), None)

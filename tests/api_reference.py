"""Reference of the Python API, from its docstrings: python tests/api_reference.py > docs/api.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import poseboard

INTRODUCTION = """# Python API

`import poseboard as pb` in any program or notebook that runs in the folder of `params.yaml`. The command line runs the
same code. [compare.ipynb](compare.ipynb) is a notebook from a function to a comparison. Errors are `pb.InputError`,
one line that names the argument, the problem and the remedy.

*Written from the docstrings by `python tests/api_reference.py > docs/api.md`.*
"""


def reference() -> str:
    """Every public name with its signature and docstring."""
    parts = [INTRODUCTION]
    for name in poseboard.__all__:
        entry = getattr(poseboard, name)
        parts.append(_entry(name, entry))
        if inspect.isclass(entry) and entry.__module__ == "poseboard.benchmarks.api":
            fields = getattr(entry, "__pydantic_fields__", {}).items()
            parts += [f"**`{name}.{key}`**: {_text(field.description)}\n" for key, field in fields if field.description]
            parts += [_member(name, key, value) for key, value in _members(entry).items()]
    return "\n".join(parts)


def _members(entry: type) -> dict[str, object]:
    """Documented methods and properties of a class and of our classes that it extends."""
    ours = [kind for kind in reversed(entry.__mro__) if kind.__module__.startswith("poseboard.benchmarks")]
    members = {key: value for kind in ours for key, value in vars(kind).items() if not key.startswith("_")}
    return {
        key: value
        for key, value in members.items()
        if (inspect.isfunction(value) or isinstance(value, property)) and inspect.getdoc(value)
    }


def _entry(name: str, entry: Callable[..., object]) -> str:
    return f"## `{name}`\n\n```python\n{_signature(name, entry)}\n```\n\n{_text(inspect.getdoc(entry) or '')}\n"


def _signature(name: str, entry: Callable[..., object]) -> str:
    signature = inspect.signature(entry)
    parameters, kind = [], None
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and kind is not parameter.kind:
            parameters.append("*")
        kind = parameter.kind
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parameters.append(f"{parameter.name}: {_annotation(parameter.annotation)}{default}")
    returns = "" if inspect.isclass(entry) else f" -> {_annotation(signature.return_annotation)}"
    text = f"{name}({', '.join(parameters)}){returns}"
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    return text if len(text) < 100 else f"{name}(\n{lines}){returns}"


def _annotation(annotation: object) -> str:
    """Type as text: as written in the code, or else without the modules of its names."""
    if isinstance(annotation, str):
        return annotation
    return re.sub(r"\b\w+\.(?=\w)", "", inspect.formatannotation(annotation))


def _member(owner: str, name: str, value: object) -> str:
    call = "()" if inspect.isfunction(value) else ""
    return f"**`{owner}.{name}{call}`**: {_text(inspect.getdoc(value) or '')}\n"


def _text(docstring: str) -> str:
    """A docstring in Markdown: sections as headings, code in fences."""
    lines: list[str] = []
    for line in docstring.splitlines():
        section = re.fullmatch(r"(Args|Attributes|Returns|Raises|Warns|Example):", line)
        argument = re.match(r" {4}(\w+): (.*)", line)
        if section:
            lines += [f"*{section[1]}*", "", *(["```python"] if section[1] == "Example" else [])]
        elif argument and "```python" not in lines:
            lines.append(f"* `{argument[1]}`: {argument[2]}")
        elif line.startswith("        ") and "```python" not in lines:
            lines.append(line[6:])
        else:
            lines.append(line.removeprefix("    "))
    if "```python" in lines:  # examples are last
        lines.append("```")
    return re.sub(r"``([^`\n]+)``", r"`\1`", "\n".join(lines)).strip()


if __name__ == "__main__":
    print(reference(), end="")

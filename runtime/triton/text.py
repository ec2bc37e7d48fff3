"""Protocol Buffers' text format, as far as a configuration needs it: https://protobuf.dev/reference/protobuf/textformat-spec

The base install holds no protobuf; a test reads what this writes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias


class Name(str):
    """The name of an enum's value: written without quotes."""


Value: TypeAlias = "str | int | bool | Sequence[int] | Sequence[str] | Message"
# Fields in their order; a repeated message is several fields of one name.
Message: TypeAlias = "dict[str, Value | list[Message]]"


def to_text(message: Message, indent: str = "") -> str:
    """A message in text, a line a field, its empty messages kept."""
    lines = []
    for name, value in message.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                lines.append(f"{indent}{name} {{\n{to_text(each, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(each)}\n")
    return "".join(lines)


def mapped(entries: dict[str, Message] | dict[str, str]) -> list[Message]:
    """A map field: messages of a key and a value."""
    return [{"key": key, "value": value} for key, value in entries.items()]


def _scalar(value: str | int | bool | Sequence[int] | Sequence[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Name | int):
        return str(value)
    if isinstance(value, str):
        return f'"{_escaped(value)}"'
    return f"[{', '.join(map(_scalar, value))}]"


def _escaped(text: str) -> str:
    """Bytes of UTF-8; what is not printable ASCII as three octal digits, after which no digit is misread."""
    escapes = {0x22: '\\"', 0x5C: "\\\\"}
    return "".join(escapes.get(byte, chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in text.encode())

"""The page "When something goes wrong" quotes messages that the code can still print."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "problems.md"
# A template with fewer fixed characters fits messages that it does not print.
LEAST = 20


def quoted() -> list[str]:
    """The page's blocks of text; a message that is wrapped there is one line here."""
    blocks = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(block.split()) for block in blocks]


def templates() -> Iterator[re.Pattern[str]]:
    """Every text of the package as a pattern, with anything where a value is put in."""
    for path in sorted((ROOT / "src" / "lexiseg").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                parts = [node.value]
            else:
                continue
            if sum(len(str(part)) for part in parts if part is not None) >= LEAST:
                pattern = "".join(".*?" if part is None else re.escape(str(part)) for part in parts)
                # A caller puts the file's name before the reason.
                yield re.compile(f"(?:[^ ]+: )?{pattern}")


TEMPLATES = list(templates())


def test_there_are_messages() -> None:
    assert len(quoted()) >= 25


@pytest.mark.parametrize("message", quoted())
def test_message_is_one_of_ours(message: str) -> None:
    assert any(template.fullmatch(message) for template in TEMPLATES)


def test_another_text_is_none_of_ours() -> None:
    assert not any(template.fullmatch("scan.png: the moon is in the seventh house; wait") for template in TEMPLATES)

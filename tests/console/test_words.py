"""What the commands print does nothing to a terminal."""

import pytest

from calllogd.console.words import out, table

HOSTILE = "1\x1b[2J01\r\x9b0m"


def test_a_line_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    out(f"extension {HOSTILE}\nthe next line")
    assert capsys.readouterr().out == "extension 1\\x1b[2J01\\x0d\\x9b0m\nthe next line\n"


def test_a_table_has_none_either(capsys: pytest.CaptureFixture[str]) -> None:
    table("", ["state", "extension"], [["failed", HOSTILE]])
    shown = capsys.readouterr().out
    assert not {"\x1b", "\r", "\x9b"} & set(shown)
    assert "1�[2J01��0m" in shown

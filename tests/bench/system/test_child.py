"""A child's answer, or one line that says why there is none."""

import pytest

from bench.system import child
from bench.system.child import ChildFailed


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that can be asked."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(*lines: str) -> str:
        (tmp_path / "asked.py").write_text(
            "\n".join(["import sys", "from bench.system import child", *lines])
        )
        return "asked"

    return write


def test_what_a_library_prints_is_not_part_of_the_answer(module, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("print('hello from a library')")
    name = module("child.answer(sys.argv[1].encode() + sys.stdin.buffer.read())", "print('goodbye')")
    assert child.ask(name, "word ", question=b"question") == b"word question"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sys.exit('no such device')", "no such device"),
        ("raise ValueError('too long')", "ValueError: too long"),
        ("pass", "asked ended with exit code 0"),
    ],
)
def test_the_last_line_of_a_failure_is_the_reason(module, line, reason):
    with pytest.raises(ChildFailed, match=f"^{reason}$"):
        child.ask(module(line))

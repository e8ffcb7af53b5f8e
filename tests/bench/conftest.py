"""A suite of tiny models, so that whole runs take seconds."""

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def plug_ins(monkeypatch):
    """Workers can import the models beside this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def write_suite(tmp_path):
    """A suite file for some implementations, the first one its baseline."""

    def write(*implementations: str, **changes) -> str:
        path = tmp_path / "tiny.yaml"
        content = {
            "description": "tiny models",
            "workload": "text",
            "lengths": [32],
            "implementations": list(implementations),
            "baseline": implementations[0],
            "timing": {"max_blocks": 3, "max_rounds": 2, "target": "99%", "deadline": "60s", "budget": "5m"},
            **changes,
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write

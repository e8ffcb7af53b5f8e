"""The workflows of the pages: their scripts, run as a runner does, call what there is and end as they say."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bench.cli import app
from bench.suites import reading as suites

HOUSE = Path(__file__).parents[3]
PAGE = (HOUSE / "docs" / "your-ci.md").read_text(encoding="utf-8")
EXAMPLE = (HOUSE / "examples" / "model-library" / ".github" / "workflows" / "performance.yml").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]


def steps() -> Iterator[dict[str, Any]]:
    """Every step of every workflow for GitHub; one that replaces another is a list of its own."""
    for block in [*BLOCKS, yaml.safe_load(EXAMPLE)]:
        if isinstance(block, list):
            yield from block
        for job in block.get("jobs", {}).values() if isinstance(block, dict) else ():
            yield from job["steps"]


def scripts() -> dict[str, str]:
    """Shell scripts that call `bench`, by a name."""
    github = {
        step.get("name", "example"): step["run"] for step in steps() if "bench regress" in step.get("run", "")
    }
    (gitlab,) = (
        block["performance"] for block in BLOCKS if isinstance(block, dict) and "performance" in block
    )
    return github | {"GitLab": "\n".join(gitlab["script"])}


def run(folder: Path, script: str, code: int) -> tuple[int, list[str]]:
    """Exit code of a script whose `bench` ends with that code, and the words that `bench` got."""
    called = folder / "called"
    (folder / "bench").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {shlex.quote(str(called))}\nexit {code}\n'
    )
    for name in ("pip", "git"):
        (folder / name).write_text("#!/bin/sh\n")
    for name in ("bench", "pip", "git"):
        (folder / name).chmod(0o755)
    variables = {"GITHUB_BASE_REF": "release/1.0", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "release/1.0"}
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    done = subprocess.run(words, cwd=folder, env=os.environ | variables | {"PATH": path}, check=False)
    return done.returncode, called.read_text().splitlines()


@pytest.mark.parametrize("name", scripts())
def test_a_script_calls_what_there_is_and_ends_as_the_gate_does(name, tmp_path):
    inconclusive = 0 if name == "Times" else 3
    for code, expected in {0: 0, 1: 1, 2: 2, 3: inconclusive}.items():
        ended, words = run(tmp_path, scripts()[name], code)
        assert ended == expected
        command = typer.main.get_command(app).commands[words[0]]
        given = command.make_context("regress", words[1:]).params
        assert given["base"] in ("origin/release/1.0", "FETCH_HEAD")
        assert given["head"] == "HEAD"
        assert given["suite"] == "checks/ci.yaml"


def test_no_script_holds_what_others_can_write():
    """An expression is pasted into a script before the shell reads it; a variable is not."""
    assert all("${{" not in step.get("run", "") for step in steps())


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_scripts_that_post_comments_can_be_read(tmp_path):
    found = [step["with"]["script"] for step in steps() if "script" in step.get("with", {})]
    assert len(found) == 2
    for number, script in enumerate(found):
        file = tmp_path / f"{number}.js"
        file.write_text(f"async function post() {{\n{script}\n}}\n")
        assert subprocess.run(["node", "--check", str(file)], check=False).returncode == 0


def test_the_suite_of_the_page_is_one(tmp_path):
    (suite,) = (block for block in BLOCKS if "workload" in block)
    (tmp_path / "ci.yaml").write_text(yaml.safe_dump(suite))
    assert suites.load(str(tmp_path / "ci.yaml")).ignored == {
        "mymodels.old:build": "goes away in the next release"
    }

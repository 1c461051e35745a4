"""What is checked before a commit, before a merge and in public is the same."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
TARGETS = re.search(r"^for target in (.+); do$", SCRIPT, re.MULTILINE)[1].split()


def test_a_commit_runs_what_a_merge_does_apart_from_the_tests():
    entries = [hook["entry"] for repository in HOOKS["repos"] for hook in repository["hooks"]]
    assert entries == [f"make {target}" for target in TARGETS if target != "test"]


def test_the_public_checks_run_the_script_on_the_oldest_python():
    python, script = WORKFLOW["jobs"]["checks"]["steps"][-2:]
    assert script == {"run": ".ci/run"}
    assert f'requires-python = ">={python["with"]["python-version"]}"' in PROJECT


def test_every_command_of_the_workflow_is_a_target_or_the_script():
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    targets = [command.split()[1] for command in commands if command.startswith("make ")]
    assert len(targets) == len(commands) - 1
    assert all(f"\n{target}: " in MAKEFILE for target in targets)


def test_the_tests_run_in_the_same_environment_everywhere():
    exported = dict(re.findall(r"(\w+)=(\S+)", re.search(r"^export (.+)$", SCRIPT, re.MULTILINE)[1]))
    assert WORKFLOW["jobs"]["tests"]["steps"][-1]["env"] == exported

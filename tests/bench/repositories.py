"""Small git repositories that tests make."""

import subprocess
from pathlib import Path


def git(folder: Path, *words: str) -> str:
    settings = ("user.name=a", "user.email=a@b", "protocol.file.allow=always", "init.defaultBranch=main")
    words = (*(word for setting in settings for word in ("-c", setting)), *words)
    done = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder: Path, message: str = "work", **files: str) -> str:
    for name, content in files.items():
        place = folder / (name if "." in name else name.replace("__", "/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", message)
    return git(folder, "rev-parse", "HEAD")

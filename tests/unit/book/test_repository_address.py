"""The repository's address stands in _config.yml; every other mention agrees with it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
OWNER, NAME = CONFIG["repository"]["url"].removeprefix("https://github.com/").split("/")
MENTION = re.compile(
    rf"(?:github\.com|colab\.research\.google\.com/github|mybinder\.org/v2/gh)/(?P<owner>[\w.-]+)/(?P<name>{NAME}\b[\w-]*)"
    # A host is looked for at the beginning of a word only: stored pictures are long words.
    rf"|(?<![\w-])(?P<host>[\w-]+)\.github\.io/(?P<page>[\w-]+)"
    rf"|github\.com/(?P<own>{OWNER})/(?P<other>[\w.-]+)"
)


def wrong_mentions(text: str) -> list[str]:
    """Addresses in a text that name the repository otherwise than _config.yml does."""
    wrong = []
    for match in MENTION.finditer(text):
        owner, name = (part for part in match.groups() if part is not None)
        if (owner, name.removesuffix(".git").rstrip(".")) != (OWNER, NAME):
            wrong.append(match.group())
    return wrong


def test_every_mention_agrees():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    this = Path(__file__).resolve()
    wrong, mentions = {}, 0
    for path in [ROOT / name for name in tracked.split("\0") if name]:
        if path.suffix in (".safetensors", ".npz", ".png") or path == this or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        mentions += len(MENTION.findall(text))
        if found := wrong_mentions(text):
            wrong[str(path.relative_to(ROOT))] = found
    assert not wrong
    assert mentions > 5


def test_launch_buttons_and_pages_agree():
    assert CONFIG["repository"]["path_to_book"] == ""
    assert CONFIG["html"]["baseurl"] == CONFIG["sphinx"]["config"]["ogp_site_url"]
    assert wrong_mentions(CONFIG["html"]["baseurl"]) == []


@pytest.mark.parametrize(
    "text",
    [
        f"https://github.com/someone/{NAME}",
        f"https://github.com/{OWNER}/another",
        f"https://someone.github.io/{NAME}",
        f"https://colab.research.google.com/github/someone/{NAME}/blob/main/book/a.ipynb",
    ],
)
def test_another_address_is_seen(text):
    assert wrong_mentions(text)

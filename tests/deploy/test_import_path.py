"""What the search path looks like when a command has begun."""

import sys

import pytest

from deploy.import_path import ROOT, own_folder_last


@pytest.mark.parametrize(
    ("before", "directory", "after"),
    [
        (["", "/lib", "/site-packages", ROOT], "/mine", ["/lib", ROOT, "/site-packages", "/mine"]),
        (["/mine", "/lib", "/x/dist-packages", "/more"], "/mine", ["/lib", ROOT, "/x/dist-packages", "/more", "/mine"]),
        ([ROOT, "/lib", "/site-packages"], ROOT, ["/lib", ROOT, "/site-packages"]),
        (["/lib"], "/mine", ["/lib", ROOT, "/mine"]),
    ],
)
def test_our_packages_come_before_installed_ones_and_the_users_folder_last(
    monkeypatch: pytest.MonkeyPatch, before: list[str], directory: str, after: list[str]
) -> None:
    """Crafter's opensimplex installs a package called tests."""
    monkeypatch.setattr(sys, "path", before)
    own_folder_last(directory)
    assert sys.path == after

"""The files of the tests themselves."""

from collections import Counter

from helpers import REPOSITORY


def test_every_test_file_has_a_name_of_its_own():
    """pytest imports them by their names alone, and leaves out all but one that share one."""
    names = Counter(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []

"""docs/reliability.md has three parts, and each run writes its own."""

from pathlib import Path

from tests.soak.table import ENGINE_HEADING, POWER_HEADING, put_engine, put_processes


def test_each_run_keeps_the_part_of_the_other(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    put_engine(page, f"{ENGINE_HEADING}\n\n| a |\n")
    put_processes(page, "# Title\n\n| 1 |\n")
    assert page.read_text() == f"# Title\n\n| 1 |\n\n{ENGINE_HEADING}\n\n| a |\n"
    put_engine(page, f"{ENGINE_HEADING}\n\n| b |\n")
    put_processes(page, "# Title\n\n| 2 |\n")
    assert page.read_text() == f"# Title\n\n| 2 |\n\n{ENGINE_HEADING}\n\n| b |\n"


def test_what_is_said_of_power_cuts_is_kept_by_both(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    page.write_text(f"{POWER_HEADING}\n\n| p |\n")
    for _ in range(2):
        put_engine(page, f"{ENGINE_HEADING}\n\n| a |\n")
        put_processes(page, "# Title\n\n| 1 |\n")
    parts = ("# Title\n\n| 1 |\n", f"{ENGINE_HEADING}\n\n| a |\n", f"{POWER_HEADING}\n\n| p |\n")
    assert page.read_text() == "\n".join(parts)


def test_the_first_run_of_the_first_part_needs_no_second(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    put_processes(page, "# Title\n")
    assert page.read_text() == "# Title\n"

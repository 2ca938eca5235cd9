import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.orders import errors
from bridge.tws.broker_codes import CATALOGUE, CodeClass, Effect, Meaning

WELL = (CodeClass.FARM, CodeClass.DATA_LOST, CodeClass.UPSTREAM_RESTORED)
ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/orders.md").read_text()
REFUSALS = (ROOT / "docs/messages.md").read_text()


def test_every_code_of_a_rule_is_explained() -> None:
    sources = ROOT.glob("bridge/orders/*.py")
    codes = {
        code
        for source in sources
        for code in re.findall(
            r'(?:Violation\(\s*|code, noun, limit = )"([a-z-]+)"', source.read_text()
        )
    }
    assert len(codes) > 20
    assert {code for code in codes if f"`{code}`" not in REFUSALS} == set()


def test_every_error_is_explained() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.code for each in kinds if issubclass(each, errors.OrderError)}
    assert {code for code in codes if f"`{code}`" not in PAGE} <= {"internal-error"}


def test_the_tables_of_codes_are_what_the_catalogue_says() -> None:
    check = [sys.executable, str(ROOT / "scripts/broker-codes"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("row", CATALOGUE.values(), ids=lambda row: str(row.code))
def test_no_advice_contradicts_the_product(row: Meaning) -> None:
    """People set stack.yaml, not the image's variables; "nothing" is said only where all works."""
    assert row.person
    assert not re.search(r"\b[A-Z]+_[A-Z_]+=|READ_ONLY_API|BRIDGE_[A-Z]", row.person)
    if row.person.startswith("Nothing"):
        assert row.kind in (*WELL, CodeClass.NOTICE, CodeClass.RATE, CodeClass.CLIENT_SIDE)
        assert row.effect in (None, Effect.WARNS)

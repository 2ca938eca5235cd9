import re
from pathlib import Path

import pytest

from bridge.orders import errors
from bridge.orders.rejects import TABLE

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/orders.md").read_text()
REFUSALS = (ROOT / "docs/troubleshooting.md").read_text()


def test_every_code_of_a_rule_is_explained() -> None:
    sources = [*ROOT.glob("bridge/orders/safety/*.py"), *ROOT.glob("bridge/orders/*.py")]
    codes = {
        code
        for source in sources
        for code in re.findall(
            r'(?:Violation\(\s*code=|_too_much\()"([a-z-]+)"', source.read_text()
        )
    }
    assert len(codes) > 20
    assert {code for code in codes if f"`{code}`" not in REFUSALS} == set()


def test_every_error_is_explained() -> None:
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.code for each in kinds if issubclass(each, errors.OrderError)}
    assert {code for code in codes if f"`{code}`" not in PAGE} <= {"internal-error"}


@pytest.mark.parametrize("code", sorted(TABLE))
def test_every_broker_code_is_listed_with_its_next_step(code: int) -> None:
    assert re.search(rf"^\| {code} \|.*{re.escape(TABLE[code].next_step)} \|$", PAGE, re.MULTILINE)

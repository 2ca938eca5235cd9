"""stack.yaml: what is accepted, and how everything wrong in it is said at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infrastructure.config import load, load_all
from infrastructure.config.places import parse
from infrastructure.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target


def problems(path: Path) -> list[str]:
    """Every problem as `line:column path: message | hint`."""
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.exit_code == 2
    shown = []
    for problem in caught.value.problems():
        place = problem.place
        assert place is not None
        assert place.file == str(path)
        at = f"{place.line}:{place.column} {place.path}"
        shown.append(f"{at}: {problem.message} | {problem.hint}")
    return shown


def test_every_problem_at_once_with_its_place(write: Callable[[str], Path]) -> None:
    path = write("""
        targets:
          prod:
            host: ubuntu@203.0.113.7
            profil: small
            gateway:
              mode: papr
              auto_restart: 25:00
              read_only: perhaps
              password: hunter2
              jvm: {heap: 64m}
              environment:
                TWS_EXTRA_ARGS: -XX:+UseSerialGC
              publish_api: 0.0.0.0:4001
        """)
    assert problems(path) == [
        "4:5 profil: unknown key 'profil' | did you mean 'profile'?",
        "5:5 gateway.username: stored secret 'tws-username' is not there"
        " | ./deploy.py --target prod secrets set tws-username",
        "6:13 gateway.mode: mode must be 'paper', 'live' or 'both' | did you mean 'paper'?",
        "7:21 gateway.auto_restart: '25:00' is no time of day"
        " | 24 hours ('23:30') or '11:30 PM'; off switches it off",
        "8:18 gateway.read_only: true or false is wanted here | ",
        "9:17 gateway.password: a secret's value does not belong in stack.yaml"
        " | ./deploy.py secrets set NAME stores it; or give {file: …} or {command: …}",
        "10:19 gateway.jvm.heap: a number is wanted here"
        " | megabytes as a plain number, without a unit, 128 at least",
        "12:25 gateway.environment.TWS_EXTRA_ARGS: TWS_EXTRA_ARGS does nothing here"
        " | the image never reads it; set gateway.jvm.options",
        "13:20 gateway.publish_api: the TWS API has no password: it must never be on a public"
        " address | such as 127.0.0.1:4001; from elsewhere use ./deploy.py tunnel api",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "targets:\n\tprod: {}\n",
            "2:1 : a tab, where YAML takes only spaces | indent with spaces",
        ),
        ("targets:\n  a: [1\n", "3:1 : not valid YAML"),
        ("targets: {}\n", "1:10 targets: there are no targets"),
        ("- a\n", "1:1 : the file must be a mapping"),
        ("", "1:1 : the file is empty | ./deploy.py init fills it"),
        ("target:\n  a: {host: b}\n", "1:1 target: unknown key 'target' | did you mean 'targets'?"),
        ("targets:\n  A_b: {host: c}\n", "2:3 targets.A_b: 'A_b' is no target name"),
        ("targets:\n  a: {}\n", "2:3 host: 'host' is missing"),
        ("defaults: x\ntargets: {a: {host: h}}\n", "1:11 defaults: a mapping (keys below it)"),
        ("defaults: [1]\ntargets: {a: {host: h}}\n", "1:11 defaults: a mapping (keys below it)"),
        ('targets: {a: {host: "h\\0"}}\n', "1:21 targets.a.host: a control character"),
        ("targets:\n  a:\n    host: h\n    host: i\n", "4:5 targets.a.host: 'host' is set twice"),
        (
            "targets:\n  a: {host: h, gateway: {image: nginx}}\n",
            "2:33 gateway.image: 'nginx' is no",
        ),
    ],
)
def test_each_kind_of_mistake(write: Callable[[str], Path], text: str, expected: str) -> None:
    path = write("x")
    path.write_text(text)
    assert any(problem.startswith(expected) for problem in problems(path)), problems(path)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOMB, "1:5 : the aliases unfold to more than"),
        ("targets: &t\n  a: *t\n", "1:10 : an alias stands within what it stands for"),
        ("targets:\n  a: &a\n    <<: *a\n", "2:6 : an alias stands within what it stands for"),
        ("[" * 100_000, "1:41 : nested deeper than 40 levels"),
        ("targets: {a: {bridge: {port: 1" + "0" * 5_000 + "}}}", "1:30 targets.a.bridge.port: the"),
        ("targets:\n  a:\n    <<: hello\n", "3:9 targets.a: << takes in mappings only"),
        ("targets:\n  a:\n    <<: [{host: h}, 7]\n", "3:21 targets.a: << takes in mappings only"),
        ("targets: {[a, b]: 1}\n", "1:11 targets: a key must be a word"),
    ],
    ids=["bomb", "self", "merge", "deep", "number", "merged", "one-of", "key"],
)
def test_what_would_never_end_is_refused(
    write: Callable[[str], Path], text: str, expected: str
) -> None:
    path = write("x")
    path.write_text(text)
    found = problems(path)
    assert any(problem.startswith(expected) for problem in found), found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"targets: \xff\xfe\n", "it is no UTF-8 text"),
        ("targets: {a: {host: h}}".encode("utf-16"), "it is no UTF-8 text"),
        (None, "Is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_in_few_words(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "stack.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert str(caught.value) == f"cannot read {path}: {expected}"


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_bytes(b"\xef\xbb\xbftargets: {a: {host: h, gateway: {username: alice}}}\n")
    assert load(path).name == "a"


def test_defaults_are_shared_and_overridden(write: Callable[[str], Path]) -> None:
    path = write("""
        defaults:
          profile: small
          gateway: {username: alice, jvm: {heap: 300}}
        targets:
          paper: {host: a}
          live:
            host: b
            gateway: {mode: live, jvm: {metaspace: 200}}
        """)
    paper, live = load_all(path)
    assert (paper.stack.profile, paper.stack.gateway.username) == ("small", "alice")
    assert (live.stack.gateway.jvm.heap, live.stack.gateway.jvm.metaspace) == (300, 200)
    assert str(live.place("gateway", "mode")) == f"{path}:8:21 gateway.mode"
    assert str(live.place("gateway", "jvm", "heap")) == f"{path}:3:42 gateway.jvm.heap"
    assert str(live.place("gateway", "time_zone")).startswith(f"{path}:8:5 ")


def test_targets_of_the_same_user_are_told(write: Callable[[str], Path]) -> None:
    """IBKR gives a user one session; `defaults` is where such a name slips in."""
    path = write("""
        defaults:
          gateway: {username: Alice, mode: live}
        targets:
          prod: {host: a}
          spare: {host: b, gateway: {username: alice}}
          paper: {host: c, gateway: {mode: paper}}
          mine: {host: d, gateway: {username: bob}}
          whole:
            host: e
            profile: small
            gateway: {mode: both, username: carol, paper_username: ALICE}
          played: {host: local, runtime: sandbox}
          odd: {host: f, gateway: {mode: [live], username: {a: b}}}
          odder: [1]
        """)
    told = {
        name: [
            (str(each.place), each.message.partition(": ")[0]) for each in load(path, name).warnings
        ]
        for name in ("prod", "paper", "mine", "whole", "played")
    }
    assert told == {
        "prod": [(f"{path}:2:23 gateway.username", "target spare logs in as the same user (live)")],
        "paper": [
            (f"{path}:2:23 gateway.username", "target whole logs in as the same user (paper)")
        ],
        "mine": [],
        "whole": [
            (
                f"{path}:11:60 gateway.paper_username",
                "target paper logs in as the same user (paper)",
            )
        ],
        "played": [],
    }


SANDBOX = """\
defaults:
  {shared}
targets:
  a:
    runtime: sandbox
    {own}
"""


def at(target: Target, path: str) -> object:
    """The value of a target at `gateway.jvm.heap`."""
    value: object = target.stack
    for part in path.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


@pytest.mark.parametrize(
    ("shared", "own", "path", "expected"),
    [
        ("trading: {max_notional: 500}", "trading:", "trading.max_notional", 500),
        ("caddy: {listen: 127.0.0.1}", "caddy:", "caddy.listen", "127.0.0.1"),
        ("gateway: {jvm: {heap: 300}}", "gateway: {jvm: }", "gateway.jvm.heap", 300),
        ("gateway: {two_factor: {asked: no}}", "gateway:", "gateway.two_factor.asked", False),
        (
            "gateway: {password: {command: pass x}}",
            "gateway: {password: }",
            "gateway.password.command",
            ("pass", "x"),
        ),
        (
            "gateway: {two_factor: {totp: {i_accept_one_factor: yes, seed: {command: pass x}}}}",
            "gateway: {two_factor: {totp: {seed: }}}",
            "gateway.two_factor.totp.seed.command",
            ("pass", "x"),
        ),
        (
            "gateway: {environment: {A: b}}",
            "gateway: {environment: }",
            "gateway.environment.A",
            "b",
        ),
        ("workers: {w: {image: 'a:1', command: x}}", "workers:", "workers.w.image", "a:1"),
        ("workers: {w: {image: 'a:1', command: x}}", "workers: {w: }", "workers.w.image", "a:1"),
        ("host: local", "host:", "host.address", "local"),
    ],
)
def test_an_empty_section_keeps_what_all_targets_share(
    write: Callable[[str], Path], shared: str, own: str, path: str, expected: object
) -> None:
    """A limit was gone, without a word, where the keys below `trading:` were commented out."""
    host = "" if shared.startswith("host") else "host: local"
    file = write("x")
    file.write_text(SANDBOX.format(shared=shared, own=f"{own}\n    {host}"))
    assert at(load(file), path) == expected


@pytest.mark.parametrize(
    ("shared", "own", "path"),
    [
        ("bridge: {flex: {query: '12'}}", "bridge: {flex: }", "bridge.flex"),
        ("trading: {max_notional: 500}", "trading: {max_notional: }", "trading.max_notional"),
        (
            "gateway: {two_factor: {totp: {i_accept_one_factor: yes}}}",
            "gateway: {two_factor: {totp: }}",
            "gateway.two_factor.totp",
        ),
    ],
)
def test_what_null_switches_off_is_switched_off(
    write: Callable[[str], Path], shared: str, own: str, path: str
) -> None:
    file = write("x")
    file.write_text(SANDBOX.format(shared=shared, own=f"host: local\n    {own}"))
    assert at(load(file), path) is None


@pytest.mark.parametrize("own", ["workers:", "gateway: {environment: }", "caddy:"])
@pytest.mark.parametrize("shared", [True, False])
def test_an_empty_section_is_no_mistake(
    write: Callable[[str], Path], own: str, *, shared: bool
) -> None:
    file = write("x")
    parts = (own, "host: local") if shared else ("host: local", own)
    file.write_text(SANDBOX.format(shared=parts[0], own=parts[1]))
    assert load(file).local


def test_a_mistake_in_the_defaults_is_placed_there(write: Callable[[str], Path]) -> None:
    path = write("""
        defaults:
          gateway: {mode: pap}
        targets:
          a: {host: h}
        """)
    assert problems(path)[0].startswith("2:19 gateway.mode: mode must be")


def test_anchors_and_merge_keys(write: Callable[[str], Path]) -> None:
    path = write("""
        targets:
          a: &base
            host: h
            gateway: {username: alice}
          b:
            <<: *base
            host: i
        """)
    _, b = load_all(path)
    assert (b.stack.host.address, b.stack.gateway.username) == ("i", "alice")


def test_yaml_1_2_words_stay_words(write: Callable[[str], Path]) -> None:
    path = write("""
        targets:
          a:
            host: h
            gateway: {username: alice, mode: live, auto_restart: 23:59, read_only: yes}
            caddy:
        """)
    gateway = load(path).stack.gateway
    assert (gateway.auto_restart, gateway.read_only) == ("23:59", True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("box", (None, "box", None)),
        ("me@box", ("me", "box", None)),
        ("me@192.0.2.1:2222", ("me", "192.0.2.1", 2222)),
        ("me@[2001:db8::1]:22", ("me", "2001:db8::1", 22)),
    ],
)
def test_hosts_in_short(
    write: Callable[[str], Path], host: str, expected: tuple[str | None, str, int | None]
) -> None:
    found = load(write(f"targets: {{a: {{host: '{host}'}}}}")).stack.host
    assert (found.user, found.address, found.port) == expected


def test_which_target(write: Callable[[str], Path], tmp_path: Path) -> None:
    path = write("targets: {a: {host: h}, b: {host: i}}")
    assert load(path, "b").stack.host.address == "i"
    assert load(path, "sandbox").stack.runtime == "sandbox"
    with pytest.raises(UsageError, match="has 2 targets: a, b"):
        load(path)
    with pytest.raises(UsageError, match="no target 'c'"):
        load(path, "c")
    with pytest.raises(UsageError, match="there is no"):
        load(tmp_path / "other.yaml")


def test_without_a_file_there_is_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "with space"))
    target = load()
    assert (target.name, target.local, target.stack.runtime) == ("sandbox", True, "sandbox")
    assert str(target.base) == str(tmp_path / "with space" / "sandbox")


_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=12),
)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(_TREES, st.booleans())
def test_every_value_is_found_where_it_stands(tree: object, flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)
    document = parse(text, "f")
    assert not document.problems
    lines = text.splitlines()
    for path, (line, column) in document.keys.items():
        key = str(path[-1])
        rest = lines[line - 1][column - 1 :]
        assert rest.lstrip("'\"").startswith(key)
    assert set(document.positions) == _paths(tree)


def _paths(tree: object, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {at}
    if isinstance(tree, dict):
        for key, value in tree.items():
            found |= _paths(value, (*at, key))
    if isinstance(tree, list):
        for index, value in enumerate(tree):
            found |= _paths(value, (*at, index))
    return found


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("target:\n  a: {host: b}\n", "unknown key 'target' | did you mean 'targets'?"),
        ("targets:\n  a: {hots: b}\n", "unknown key 'hots' | did you mean 'host'?"),
    ],
)
def test_a_misspelt_key_is_the_cause_and_nothing_else(
    write: Callable[[str], Path], text: str, only: str
) -> None:
    path = write("x")
    path.write_text(text)
    [found] = [problem for problem in problems(path) if "secret" not in problem]
    assert found.endswith(only)

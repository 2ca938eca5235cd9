"""The preparation script: sound shell, honest dry run, one report a step."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infrastructure.cli import main
from infrastructure.config import load
from infrastructure.errors import GangwayError
from infrastructure.prepare import (
    AS_ROOT,
    PROGRAM,
    SOURCES,
    STEPS,
    HostSettings,
    StepReport,
    carry_out,
    cloud_init,
    host_settings,
    parse,
    script,
)
from infrastructure.transport.base import LocalTransport, run

SETTINGS = HostSettings(swap_mb=1024, folder="/opt/gangway", ports=(80, 443), ssh_port=2222)
SHELLCHECK = Path(sys.executable).with_name("shellcheck")


@pytest.mark.parametrize("dry_run", [False, True])
def test_is_clean_posix_shell(dry_run: bool) -> None:
    # SC2329: the steps are called by name; SC2086: lists of packages are split on purpose.
    found = subprocess.run(
        [SHELLCHECK, "-s", "sh", "-e", "SC1091,SC2086,SC2329", "-"],
        input=script(SETTINGS, dry_run=dry_run),
        text=True,
        capture_output=True,
        check=False,
    )
    assert found.stdout == ""
    assert found.returncode == 0


def test_every_step_has_its_file_and_its_three_functions() -> None:
    text = script(SETTINGS)
    for name in STEPS:
        for part in ("title", "check", "apply"):
            assert f"\n{name}_{part}()" in text


def test_settings_are_quoted() -> None:
    text = script(HostSettings(swap_mb=0, folder="/srv/a b'; reboot #"))
    assert "DEPLOY_FOLDER='/srv/a b'\"'\"'; reboot #'\n" in text


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="the steps need root (sudo make test)")


@root_only
@pytest.mark.skipif(not shutil.which("dpkg-query"), reason="only Debian and Ubuntu can be prepared")
def test_dry_run_over_a_transport_reports_each_step_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "gangway"
    wanted = HostSettings(swap_mb=1 << 20, folder=str(folder))
    with LocalTransport() as transport:
        reports = list(carry_out(transport, script(wanted, dry_run=True)))
    assert [report.step for report in reports] == list(STEPS)
    assert {report.state for report in reports} <= {"ok", "would-change"}
    states = {report.step: report for report in reports}
    assert states["folder"].state == "would-change"
    assert states["folder"].detail == "it does not exist"
    assert states["swap"].state == "would-change"
    assert not folder.exists()


@root_only
def test_a_step_is_done_once_and_then_found_done(tmp_path: Path) -> None:
    import getpass

    folder = tmp_path / "gangway"
    wanted = HostSettings(swap_mb=0, folder=str(folder), owner=getpass.getuser())
    text = script(wanted, steps=("folder", "swap"))
    with LocalTransport() as transport:
        first = list(carry_out(transport, text))
        second = list(carry_out(transport, text))
    assert [report.state for report in first] == ["changed", "ok"]
    assert [report.state for report in second] == ["ok", "ok"]
    assert folder.stat().st_mode & 0o777 == 0o700


@root_only
@pytest.mark.parametrize(
    ("within", "closed"),
    [
        (("prod/lock",), True),
        ((".ssh/authorized_keys",), False),
        (("prod/lock", "containerd/bin"), False),
    ],
)
def test_a_folder_of_others_is_not_closed_to_them(
    tmp_path: Path, within: tuple[str, ...], closed: bool
) -> None:
    """`folder: /opt` or `/home/ubuntu`: its owner could not log in any more."""
    folder = tmp_path / "home"
    for name in within:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    folder.chmod(0o755)
    wanted = HostSettings(swap_mb=0, folder=str(folder))
    with LocalTransport() as transport:
        (report,) = carry_out(transport, script(wanted, steps=("folder",)))
    assert report.state == ("changed" if closed else "ok"), report
    assert (folder.stat().st_mode & 0o777) == (0o700 if closed else 0o755)
    assert ("others use it" in report.detail) is not closed


@root_only
@pytest.mark.parametrize("folder", [Path.home(), Path("/srv"), Path("/opt")])
def test_a_home_and_the_systems_own_folders_are_others(folder: Path) -> None:
    wanted = HostSettings(swap_mb=0, folder=str(folder), owner="nobody")
    with LocalTransport() as transport:
        (report,) = carry_out(transport, script(wanted, dry_run=True, steps=("folder",)))
    assert (report.state, "others use it" in report.detail) == ("ok", True), report


@root_only
def test_a_preparation_that_breaks_off_is_none() -> None:
    """A machine short of memory may kill its shell: what was not reached is not done."""
    text = script(SETTINGS, dry_run=True, steps=("swap", "kernel"))
    text = text.replace("    step kernel\n", "    kill -9 $$\n")
    with LocalTransport() as transport, pytest.raises(GangwayError, match="broke off") as caught:
        list(carry_out(transport, text))
    assert caught.value.code == "prepare-failed"


@root_only
def test_a_failed_step_is_told_and_the_others_still_run(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    text = script(
        HostSettings(swap_mb=0, folder=str(blocked / "gangway")), steps=("folder", "swap")
    )
    with LocalTransport() as transport:
        reports = list(carry_out(transport, text))
    assert [report.state for report in reports] == ["failed", "ok"]
    assert "Not a directory" in reports[0].detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no sudo")
def test_a_login_without_rights_is_told_what_it_lacks() -> None:
    with LocalTransport() as transport, pytest.raises(GangwayError) as caught:
        list(carry_out(transport, script(SETTINGS, dry_run=True)))
    assert caught.value.code == "prepare-failed"
    assert "sudo" in caught.value.hint


@pytest.mark.parametrize(
    ("came_by", "stays"), [("", False), ("203.0.113.9 50000 10.0.0.4 4022", True)]
)
def test_the_port_that_the_session_came_in_by_stays_open(
    came_by: str, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever sshd's own configuration says: `Port` of ~/.ssh/config is not in stack.yaml."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SSH_CONNECTION", came_by)
    for name, said in (("id", "echo 1000"), ("sudo", SUDO)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / name).chmod(0o755)
    text = script(SETTINGS, steps=()).replace("    settled\n", "    firewall_ssh_ports\n")
    text = text.replace("{\n    echo", (SOURCES / "firewall.sh").read_text() + "{\n    echo")
    with LocalTransport() as transport:
        done = run(transport, AS_ROOT, text.encode())
    found = done.output.split()
    assert b"2222" in found, done
    assert (b"4022" in found) is stays, done


SUDO = '[ "$1" = -n ] && shift && exec env -u SSH_CONNECTION "$@"'


def test_only_reports_are_read_from_the_output() -> None:
    assert parse(b"Setting up docker.io\n") is None
    assert parse(b'{"other": 1}\n') is None
    line = b'{"step": "swap", "title": "t", "state": "ok", "detail": ""}\n'
    assert parse(line) == StepReport("swap", "t", "ok", "")


def test_of_the_sandbox_there_is_no_cloud_init(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a stack.yaml it would close the machine's 80 and 443 for the sandbox's own ports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "sandbox"))
    with pytest.raises(SystemExit) as ended:
        main(["prepare", "--cloud-init"])
    out, err = capfd.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert "the sandbox needs no preparation" in err


def test_cloud_init_carries_the_same_script() -> None:
    text = cloud_init(SETTINGS)
    assert text.startswith("#cloud-config\n")
    document = yaml.safe_load(text)
    assert document["write_files"][0]["content"] == script(SETTINGS)
    assert document["runcmd"] == [[PROGRAM]]


USED = ("swap", "daemon", "folder", "upgrades", "firewall")


def program(path: Path, does: str) -> None:
    """A program of this name, in place of the machine's own."""
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)


def shell(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs lines after the script's own functions, without any step."""
    program = script(SETTINGS, steps=()).rpartition("{\n")[0]
    parts = [program, *((SOURCES / f"{name}.sh").read_text() for name in USED)]
    return subprocess.run(
        ["sh", "-c", "\n".join([*parts, text])],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )


SHARED = """\
defaults: {host: me@Shared.example}
targets:
  prod: {}
  paper:
    host: other@shared.example
    caddy: {http_port: 8081, https_port: 8444}
  elsewhere:
    host: me@192.0.2.9
    caddy: {http_port: 8082, https_port: 8445}
  broken: {caddy: {https_port: none}}
"""


@pytest.mark.parametrize("name", ["prod", "paper"])
def test_the_ports_of_every_target_on_the_host_are_open(tmp_path: Path, name: str) -> None:
    """Whichever is prepared last: each would close the other's else."""
    file = tmp_path / "stack.yaml"
    file.write_text(SHARED)
    assert host_settings(load(file, name)).ports == (80, 443, 8081, 8444)
    assert host_settings(load(file, "elsewhere")).ports == (8082, 8445)


def test_a_port_that_is_open_for_another_file_stays_open(tmp_path: Path) -> None:
    program = tmp_path / "gangway-firewall"
    line = 'PORTS="80 443 8081 8444"\n'
    for _ in range(2):  # once installed it is found as it should be
        installed = shell('firewall_program | put "$FIREWALL_PROGRAM" 755', **of_program(program))
        assert "PORTS" not in installed.stdout
        program.write_text(program.read_text().replace('PORTS="80 443"', line.rstrip()))
    assert line in program.read_text()
    assert shell("firewall_title", **of_program(program)).stdout.startswith(
        "firewall: SSH, 80 443 8081 8444; "
    )
    same = shell('firewall_program | same "$FIREWALL_PROGRAM"', **of_program(program))
    assert same.returncode == 0, same
    program.unlink()  # the way to forget them
    shell('firewall_program | put "$FIREWALL_PROGRAM" 755', **of_program(program))
    assert 'PORTS="80 443"\n' in program.read_text()


@pytest.mark.parametrize(
    ("chains", "missing"),
    [("INPUT DOCKER-USER", ""), ("INPUT", "DOCKER-USER"), ("DOCKER-USER", "INPUT")],
)
def test_a_firewall_of_which_a_part_is_gone_is_not_in_force(chains: str, missing: str) -> None:
    """Another program's `iptables-restore` takes the rules of a whole table away."""
    played = """
        iptables() {
            case " $CHAINS " in *" $3 "*) echo "-A $3 -i eth0 -j GANGWAY-${3%%-*}" ;; esac
        }
        firewall_in_force
    """
    found = shell(played, CHAINS=chains, IPV6="/nonexistent")
    assert (found.returncode, missing in found.stdout) == (int(bool(missing)), True), found


@pytest.mark.parametrize(("sixth", "missing"), [("INPUT DOCKER-USER", ""), ("INPUT", "IPv6")])
def test_a_firewall_without_its_half_for_ipv6_is_not_in_force(sixth: str, missing: str) -> None:
    played = """
        iptables() { echo "-A $3 -i eth0 -j GANGWAY-${3%%-*}"; }
        ip6tables() {
            case " $SIXTH -L" in *" $3"*) echo "-A $3 -i eth0 -j GANGWAY-${3%%-*}" ;; esac
        }
        firewall_in_force
    """
    found = shell(played, SIXTH=sixth, IPV6="/dev/null")
    assert (found.returncode, missing in found.stdout) == (int(bool(missing)), True), found


SSHD = """
    sshd() { printf 'port 22\\nlistenaddress 0.0.0.0:2222\\nlistenaddress [::]:2223\\n'; }
    systemctl() { printf 'Listen=[::]:2224 (Stream)\\nListen=\\n'; }
    firewall_ssh_ports
"""


def test_every_way_in_that_is_or_was_used_stays_open(tmp_path: Path) -> None:
    """`Port` is 22 where only ListenAddress names ports; an earlier session came by 4022."""
    program = tmp_path / "gangway-firewall"
    program.write_text('PORTS="80 443"\nSSH_PORTS="22 4022"\n')
    found = shell(SSHD, FIREWALL_PROGRAM=str(program)).stdout.split()
    assert set(found) >= {"22", "2222", "2223", "2224", "4022"}


def test_a_firewall_that_is_not_wanted_and_in_force_is_told(tmp_path: Path) -> None:
    off = "FIREWALL=0; firewall_title; firewall_check"
    program(tmp_path / "iptables", "echo '-P INPUT ACCEPT'")
    said = shell(f"PATH={tmp_path}:$PATH; {off}")
    assert (said.returncode, "all else closed" in said.stdout) == (0, False)
    assert "not wanted" in said.stdout
    program(tmp_path / "iptables", "echo '-A INPUT -i eth0 -j GANGWAY-INPUT'")
    said = shell(f"PATH={tmp_path}:$PATH; {off}")
    assert (said.returncode, "disable --now gangway-firewall" in said.stdout) == (0, True)


HEAD = "Filename Type Size Used Priority\n"
SWAPPING = """
    swapoff() { echo "off $*" >>"$LOG"; }
    swapon() { echo "on $*" >>"$LOG"; }
    swap_make() { echo "make $1" >>"$LOG"; [ "$1" != "$BROKEN" ]; }
    df() { echo "Filesystem"; echo "/dev/vda1 30000 20000 $FREE 70% /"; }
    systemd() { true; }
    systemctl() { case "$*" in *FragmentPath*"$UNIT"*) echo /run/x.swap ;; esac; }
    fstab_wanted() { cat "$FSTAB"; }
"""


def swapping(tmp_path: Path, text: str, swaps: str, **more: str) -> tuple[int, list[str]]:
    """Runs lines of the swap step on a machine that is played; what it did."""
    (tmp_path / "swaps").write_text(HEAD + swaps)
    (tmp_path / "fstab").write_text("")
    log = tmp_path / "log"
    log.write_text("")
    files = {"SWAPS": tmp_path / "swaps", "FSTAB": tmp_path / "fstab", "LOG": log}
    program(tmp_path / "systemd-escape", 'shift 2; echo "${1##*/}.swap"')
    program(tmp_path / "systemd-detect-virt", "exit 1")
    variables = {"FREE": "9000", "UNIT": "none", "BROKEN": "none", **more}
    done = shell(
        f"SWAP_MB=1024\nPATH={tmp_path}:$PATH\n{SWAPPING}\n{text}",
        **{name: str(path) for name, path in files.items()},
        **variables,
    )
    return done.returncode, log.read_text().splitlines()


OURS = "/swapfile file 524284 0 -2\n"


def test_swap_is_not_taken_away_where_there_is_no_room_for_more(tmp_path: Path) -> None:
    assert swapping(tmp_path, "swap_apply", OURS, FREE="1100") == (1, [])
    code, did = swapping(tmp_path, "swap_apply", OURS)
    assert (code, did) == (0, ["off /swapfile", "make 1024", "on /swapfile"])
    code, did = swapping(tmp_path, "swap_apply", OURS, BROKEN="1024")
    assert (code, did[-2:]) == (1, ["make 512", "on /swapfile"])


@pytest.mark.parametrize(
    ("swaps", "unit", "enough"),
    [
        ("/swap2 file 2097148 0 -2\n", "none", 1),  # somebody's swapon, of which no boot knows
        ("/swap2 file 2097148 0 -2\n", "swap2.swap", 0),
        ("/swap2 file 524284 0 -2\n" + OURS, "none", 1),
        ("/swap2 file 524284 0 -2\n" + OURS, "swap2.swap", 0),
        ("", "none", 1),
    ],
)
def test_only_swap_that_comes_again_counts(
    tmp_path: Path, swaps: str, unit: str, enough: int
) -> None:
    check = "swap_next_boot() { true; }\nswap_check"
    assert swapping(tmp_path, check, swaps, UNIT=unit)[0] == enough


@pytest.mark.parametrize(
    ("before", "swarm", "wanted"),
    [
        ("", "", {"log-driver": "local", "live-restore": True}),
        ('{"log-opts": {"tag": "x"}}', "inactive", {"log-driver": "json-file"}),
        ('{"log-opts": null}', "", {"log-driver": "local"}),
        ('{"live-restore": false}', "active", {"live-restore": False}),
        ("{}", "active", {"live-restore": None}),
        ("[1]", "", {"log-driver": "local", "live-restore": True}),
    ],
)
def test_the_engine_would_take_what_is_written_for_it(
    tmp_path: Path, before: str, swarm: str, wanted: dict[str, Any]
) -> None:
    """Else it would not start at the next boot."""
    file = tmp_path / "daemon.json"
    if before:
        file.write_text(before)
    played = f"docker() {{ echo {swarm}; }}\n"
    for call, code in (("check", 1), ("apply", 0), ("check", 0)):
        done = shell(f"{played}daemon_merge {call}", DAEMON_FILE=str(file))
        assert done.returncode == code, done
        assert "Traceback" not in done.stderr
    found = json.loads(file.read_text())
    assert {key: found.get(key) for key in wanted} == wanted
    assert found["log-opts"]["max-size"] == "10m"


@pytest.mark.parametrize(
    ("dump", "said"),
    [
        ('APT::Periodic::Unattended-Upgrade "1";', ""),
        ('Unattended-Upgrade::Automatic-Reboot "true";', "reboot by itself"),
        ('APT::Periodic::Enable "0";', "switches them off"),
    ],
)
def test_what_another_file_makes_of_the_upgrades_is_told(
    tmp_path: Path, dump: str, said: str
) -> None:
    program(tmp_path / "apt-config", f"echo '{dump}'")
    played = f"PATH={tmp_path}:$PATH\nsystemd() {{ false; }}\nupgrades_overruled"
    done = shell(played)
    assert (done.returncode, said in done.stdout, bool(done.stdout)) == (0, True, bool(said))


@pytest.mark.parametrize(
    ("mode", "lock", "own"), [(0o700, True, True), (0o755, True, False), (0o700, False, False)]
)
@root_only
def test_a_folder_of_a_login_without_sudo_stays_its_own(
    tmp_path: Path, mode: int, lock: bool, own: bool
) -> None:
    folder = tmp_path / "gangway"
    (folder / "prod").mkdir(parents=True)
    if lock:
        (folder / "prod/lock").write_text("")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    folder.chmod(mode)
    found = shell(f"DEPLOY_FOLDER={folder}\nfolder_check")
    assert ("who deploys there" in found.stdout) is own


def of_program(program: Path) -> dict[str, str]:
    return {"FIREWALL_PROGRAM": str(program), "FIREWALL_SSH_PORTS": "22"}


ROOT = "/dev/vda1 / ext4 defaults 0 1\n"
SWAP = "/swapfile none swap sw 0 0\n"
OTHER = "# a comment\n/swapfile2 none swap sw 0 0\n"


@pytest.mark.parametrize(
    ("found", "mended"),
    [
        ("", SWAP),
        (ROOT, ROOT + SWAP),
        (ROOT.rstrip("\n"), ROOT + SWAP),
        (ROOT + SWAP, ROOT + SWAP),
        # A power loss in the middle of an append: the length was on the disk, the bytes were not.
        (ROOT + "\0" * len(SWAP), ROOT + SWAP),
        (ROOT + "\0" * len(SWAP) + SWAP, ROOT + SWAP),
        (ROOT + "\0" * 4096, ROOT + SWAP),
        # ... and of half an append.
        *((ROOT + SWAP[:length], ROOT + SWAP) for length in range(2, len(SWAP))),
        (ROOT + SWAP[:5] + "\0" * 3 + "\n" + SWAP, ROOT + SWAP),
        (ROOT + SWAP + SWAP, ROOT + SWAP),
        # What is not ours stays, whatever it is.
        (
            "# a comment\n/swapfile2 none swap sw 0 0\n",
            "# a comment\n/swapfile2 none swap sw 0 0\n" + SWAP,
        ),
        ("UUID=1 / ext4 defaults\n\n", "UUID=1 / ext4 defaults\n\n" + SWAP),
    ],
)
def test_a_table_that_a_power_loss_damaged_is_mended(
    tmp_path: Path, found: str, mended: str
) -> None:
    table = tmp_path / "fstab"
    table.write_text(found)
    done = shell("fstab_wanted", FSTAB=str(table))
    assert (done.returncode, done.stdout) == (0, mended)
    for _ in range(2):
        done = shell('fstab_wanted | put "$FSTAB" 644', FSTAB=str(table))
        assert table.read_text() == mended
    assert done.returncode == 1  # nothing more to change
    assert [path.name for path in tmp_path.iterdir()] == ["fstab"]


def test_a_hole_in_a_file_is_seen(tmp_path: Path) -> None:
    table = tmp_path / "fstab"
    table.write_text(ROOT)
    assert shell('damaged "$FSTAB"', FSTAB=str(table)).returncode == 1
    table.write_text(ROOT + "\0")
    assert shell('damaged "$FSTAB"', FSTAB=str(table)).returncode == 0


@pytest.mark.parametrize(
    ("found", "boots"), [(ROOT + SWAP, 0), (ROOT, 1), (ROOT + "\0" * len(SWAP) + SWAP, 1)]
)
def test_the_check_asks_what_the_next_boot_will_read(
    tmp_path: Path, found: str, boots: int
) -> None:
    table = tmp_path / "fstab"
    table.write_text(found)
    assert shell("swap_next_boot", FSTAB=str(table)).returncode == boots


def test_a_file_has_its_content_before_its_name(tmp_path: Path) -> None:
    """In this order, or a power loss leaves an empty file under the right name."""
    fake = tmp_path / "bin"
    fake.mkdir()
    for name in ("sync", "mv"):
        program = fake / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >>"$LOG"\n{shutil.which(name)} "$@"\n')
        program.chmod(0o755)
    log, target = tmp_path / "log", tmp_path / "etc" / "file"
    done = shell(f"PATH={fake}:$PATH; export PATH; echo content | put {target} 600", LOG=str(log))
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == [
        f"sync {target}.gangway-new",
        f"mv -f {target}.gangway-new {target}",
        f"sync {target.parent}",
    ]
    assert target.stat().st_mode & 0o777 == 0o600


APT = """#!/bin/sh
echo "$*" >>"$0.asked"
case $(wc -l <"$0.asked") in
{cases}
*) exit 0 ;;
esac
"""
LOCKED = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 4242 (apt-get)"


def apt(tmp_path: Path, text: str, **cases: str) -> subprocess.CompletedProcess[str]:
    """`apt-get` that says so at its first calls; `sleep` does not."""
    lines = [f"{number[1:]}) echo '{said}' >&2; exit 100 ;;" for number, said in cases.items()]
    for name, program in (
        ("apt-get", APT.format(cases="\n".join(lines))),
        ("sleep", "#!/bin/sh\n"),
    ):
        (tmp_path / name).write_text(program)
        (tmp_path / name).chmod(0o755)
    text = f"PATH={tmp_path}:$PATH\n{text}"
    return shell(text, APT_LOCK_SECONDS="9")


def test_a_fresh_machine_that_updates_itself_is_waited_for(tmp_path: Path) -> None:
    done = apt(tmp_path, "install curl", _1=LOCKED, _2=LOCKED)
    assert done.returncode == 0, done
    asked = (tmp_path / "apt-get.asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["update", "update", "update", "curl"]


def test_dpkgs_lock_is_waited_for_as_long_and_no_longer(tmp_path: Path) -> None:
    """For that one apt-get itself waits, each time it is called."""
    text = """
        seconds() { cat "$UPTIME"; }
        printf 100 >"$UPTIME"
        install curl
    """
    waits = (
        'echo "$*" >>"$0.asked"; printf 104 >"$UPTIME"; echo "E: Could not get lock" >&2; exit 100'
    )
    program(tmp_path / "apt-get", waits)
    program(tmp_path / "sleep", 'printf "$(($(cat "$UPTIME") + 600))" >"$UPTIME"')
    done = shell(
        f"PATH={tmp_path}:$PATH\n{text}", APT_LOCK_SECONDS="600", UPTIME=str(tmp_path / "uptime")
    )
    assert (done.returncode, "apt is busy" in done.stdout) == (1, True)
    asked = (tmp_path / "apt-get.asked").read_text().splitlines()
    assert [line.split("Timeout=")[1].split()[0] for line in asked] == ["600", "0"]


def test_a_lock_that_is_never_freed_is_named(tmp_path: Path) -> None:
    done = apt(tmp_path, "install curl", **{f"_{number}": LOCKED for number in range(1, 9)})
    assert done.returncode == 1
    assert "apt is busy: E: Could not get lock" in done.stdout


def test_what_the_network_breaks_off_is_tried_again(tmp_path: Path) -> None:
    assert apt(tmp_path, "install curl", _1="E: Failed to fetch x").returncode == 0
    (tmp_path / "apt-get.asked").unlink()
    done = apt(tmp_path, "install x", **{f"_{n}": "E: Unable to locate x" for n in range(1, 9)})
    assert done.returncode == 1
    assert "Unable to locate x" in done.stdout


INTERRUPTED = "E: dpkg was interrupted, you must manually run dpkg --configure -a to correct this."


def test_an_installation_that_lost_its_power_is_gone_through_with(tmp_path: Path) -> None:
    for name, does in (
        ("dpkg", 'echo "$*" >>"$0.asked"'),
        ("dpkg-query", r"printf 'ii |bash\niHR|containerd\n'"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    done = apt(tmp_path, "install curl", _2=INTERRUPTED)
    assert done.returncode == 0, done
    assert (tmp_path / "dpkg.asked").read_text() == "--configure -a --force-confold\n"
    asked = (tmp_path / "apt-get.asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == [
        "update",
        "curl",
        "install",
        "containerd",
        "curl",
    ]
    (tmp_path / "apt-get.asked").unlink()
    done = apt(tmp_path, "install x", **{f"_{number}": INTERRUPTED for number in range(1, 9)})
    assert done.returncode == 1
    assert "dpkg was interrupted" in done.stdout

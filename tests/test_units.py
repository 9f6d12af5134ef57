"""The units of systemd, and what stands beside them in etc/, say what the documentation promises of them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from calllogd.config import ACCOUNT, GENERIC, SECTIONS

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
SERVICES = ("calllogd.service", "calllogd-once.service")
PROGRAM = "/opt/calllogd/bin/calllogd"

EXPOSURE_MOST = 20
"""In tenths, as systemd-analyze takes it."""

HARDENED = {
    "AmbientCapabilities": [""],
    "CapabilityBoundingSet": [""],
    "LimitCORE": ["0"],
    "LockPersonality": ["yes"],
    "MemoryDenyWriteExecute": ["yes"],
    "NoNewPrivileges": ["yes"],
    "PrivateDevices": ["yes"],
    "PrivateTmp": ["yes"],
    "PrivateUsers": ["yes"],
    "ProtectHome": ["yes"],
    "ProtectSystem": ["strict"],
    "RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX"],
    "RestrictNamespaces": ["yes"],
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
}

PROMISED = {
    "calllogd.service": {
        "Type": ["notify"],
        "NotifyAccess": ["main"],
        "WatchdogSec": ["30"],
        "Restart": ["on-failure"],
        "RestartPreventExitStatus": ["78"],
        "TimeoutStopSec": ["15"],
        "DynamicUser": ["yes"],
        "User": ["calllogd"],
        "StateDirectory": ["calllogd"],
        "LogsDirectory": ["calllogd"],
        "ConfigurationDirectory": ["calllogd"],
        "UMask": ["0077"],
        "WantedBy": ["multi-user.target"],
        **HARDENED,
    },
    "calllogd-once.service": {
        "Type": ["oneshot"],
        "SuccessExitStatus": ["75"],
        "DynamicUser": ["yes"],
        # The same user has the same files.
        "User": ["calllogd"],
        "StateDirectory": ["calllogd"],
        "LogsDirectory": ["calllogd"],
        "UMask": ["0077"],
        **HARDENED,
    },
    "calllogd-once.timer": {
        "OnCalendar": ["*:0/5"],
        "Persistent": ["yes"],
        "WantedBy": ["timers.target"],
    },
}


def directives(name: str) -> dict[str, list[str]]:
    """What a unit sets; a key that is there twice has both values."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize(
    ("name", "key", "values"),
    [(name, key, values) for name, promised in PROMISED.items() for key, values in promised.items()],
)
def test_the_unit_says(name: str, key: str, values: list[str]) -> None:
    assert directives(name).get(key) == values


@pytest.mark.parametrize("name", SERVICES)
def test_root_hands_the_service_a_copy_of_its_configuration(name: str) -> None:
    unit = directives(name)
    (folder,) = unit["RuntimeDirectory"]
    assert unit["RuntimeDirectoryMode"] == ["0700"], "the copy may be read by whoever gets there"
    copy = f"/run/{folder}/calllogd.toml"
    (install,) = unit["ExecStartPre"]
    # -T: the service owns the folder, and may not make root write anywhere else by a link in it.
    assert install == f"+/usr/bin/install -T -m 0444 /etc/calllogd/calllogd.toml {copy}"
    (start,) = unit["ExecStart"]
    assert start.split()[:3] == [PROGRAM, "--config", copy]
    assert start.split()[3:] == (["--once"] if name == "calllogd-once.service" else [])


def test_a_reload_renews_that_copy_first() -> None:
    unit = directives("calllogd.service")
    assert unit["ExecReload"] == [*unit["ExecStartPre"], "/bin/kill -HUP $MAINPID"]


def test_both_services_are_hardened_alike() -> None:
    parts = [
        (UNITS / name).read_text(encoding="utf-8").partition("# --- Hardening")[2].partition("[Install]")[0]
        for name in SERVICES
    ]
    assert parts[0].strip()
    assert parts[0].strip() == parts[1].strip()


@pytest.mark.parametrize("name", PROMISED)
def test_each_group_of_lines_has_its_reason(name: str) -> None:
    text = (UNITS / name).read_text(encoding="utf-8")
    service = re.search(r"^\[(?:Service|Timer)\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    assert service
    bare = [group for group in re.split(r"\n{2,}", service[1].strip()) if "\n# " not in f"\n{group}"]
    # A type that needs no word, and a time that does not.
    assert [group for group in bare if not group.startswith(("Type=", "OnCalendar="))] == []


@pytest.mark.parametrize("name", SERVICES)
def test_each_secret_has_its_credential_in_words_of_the_manual(name: str) -> None:
    manual = (ROOT / "etc/calllogd.toml").read_text(encoding="utf-8")
    unit = (UNITS / name).read_text(encoding="utf-8")
    offered = re.findall(r"^#LoadCredential=(\w+):/etc/calllogd/\1$", unit, re.MULTILINE)
    assert offered == re.findall(r'^# \w+_file = "(\w+)"$', manual, re.MULTILINE)
    tables = [*SECTIONS.values(), ACCOUNT, GENERIC]
    assert len(offered) == sum(setting.secret for table in tables for setting in table.values())


ANALYZE = shutil.which("systemd-analyze")


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *words], capture_output=True, text=True, check=False)


def systemd_version() -> int:
    """The version of systemd-analyze; 0 where there is none."""
    found = re.match(r"systemd (\d+)", analyze("--version").stdout) if ANALYZE else None
    return int(found[1]) if found else 0


needs_systemd = pytest.mark.skipif(
    systemd_version() < 250, reason="systemd-analyze 250 or newer is needed; apt-get install systemd"
)


@needs_systemd
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        # The program is not installed where the tests run, and its absence would be found wrong.
        text = unit.read_text(encoding="utf-8").replace(PROGRAM, "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    checked = analyze("verify", "--man=no", *sorted(map(str, tmp_path.iterdir())))
    assert (checked.returncode, [line for line in checked.stderr.splitlines() if "calllogd" in line]) == (
        0,
        [],
    )


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_systemd_finds_the_service_hardly_exposed(name: str) -> None:
    checked = analyze(
        "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MOST}", str(UNITS / name)
    )
    assert "Overall exposure level" in checked.stdout, checked.stderr
    assert checked.returncode == 0, checked.stdout.splitlines()[-1]


def test_the_log_is_rotated_by_renaming_alone() -> None:
    text = (ROOT / "etc/logrotate.conf").read_text(encoding="utf-8")
    words = {line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")}
    assert {"/var/log/calllogd/calllogd.log {", "weekly", "compress", "delaycompress", "nocreate"} <= words
    assert "copytruncate" not in words


def test_the_proxy_passes_on_only_what_the_world_has_to_reach() -> None:
    text = (ROOT / "etc/Caddyfile").read_text(encoding="utf-8")
    public = re.findall(r"^\t@public path (.+)$", text, re.MULTILINE)
    assert public == ["/voip/* /widget/* /recordings/* /oauth/* /kommo/* /healthz"]
    upload = re.search(r"path_regexp (\S+)", text)
    assert upload
    assert re.search(upload[1], "/voip/generic/31337/recordings/a/b")
    assert not re.search(upload[1], "/voip/generic/31337")


def test_the_proxy_lets_through_what_calllogd_takes() -> None:
    text = (ROOT / "etc/Caddyfile").read_text(encoding="utf-8")
    upload, rest = (int(mebibytes) << 20 for mebibytes in re.findall(r"max_size (\d+)MiB", text))
    assert upload > SECTIONS["recordings"]["max_bytes"].default
    assert rest > 64 << 10
    listen = "{}:{}".format(*SECTIONS["http"]["listen"].default)
    assert text.count(f"reverse_proxy {listen}\n") == text.count("reverse_proxy")

"""The documents name every setting, command, route, state and error code."""

from pathlib import Path

import pytest

from calllogd.config import ACCOUNT, GENERIC, SECTIONS
from calllogd.domain.call import CallState
from calllogd.voip.provider import services
from calllogd.web.problems import PROBLEMS

ROOT = Path(__file__).parent.parent
COMMANDS = [
    "init", "check", "status", "calls", "show", "retry", "forget", "voip-token", "rotate-key", "demo",
    "--once", "simulate", "import", "replay", "3cx-template",
]  # fmt: skip
EVENTS = [
    "accepted", "call", "account_paused", "account_resumed", "account_installed", "account_disabled",
    "token_renewed", "token_trouble", "login", "login_refused",
]  # fmt: skip
ROUTES = [
    "/voip/generic/{account_id}",
    "/voip/generic/{account_id}/recordings/{call_id}",
    "/recordings/{token}",
    "/healthz",
    "/readyz",
    "`PUT {public_url}/widget/v1/calls/{call_id}/result`",
    "`POST {public_url}/widget/v1/calls/{call_id}/skip`",
    "`PUT {public_url}/widget/v1/calls/{call_id}`",
    "`GET {public_url}/widget/v1/calls/{call_id}`",
    "`POST {public_url}/kommo/{account_id}/{secret}`",
    "`POST {public_url}/widget/v1/session`",
    "`GET {public_url}/widget/v1/events?ticket=`",
    "`GET {public_url}/widget/v1/calls?open=1`",
    "`GET {public_url}/widget/v1/extensions`",
    "`PUT {public_url}/widget/v1/extensions`",
    "`GET /api/v1/status`",
    "`GET /api/v1/calls`",
    "`GET /api/v1/calls/{account_id}/{call_id}`",
    "`POST /api/v1/calls/{account_id}/{call_id}/retry`",
    "`POST /api/v1/retry`",
    "`GET /metrics`",
    "`GET {public_url}/oauth/install`",
    "`GET {public_url}/oauth/callback`",
    "`GET {public_url}/oauth/disable`",
]


def document(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "key", [f"{name} =" for keys in (*SECTIONS.values(), ACCOUNT, GENERIC) for name in keys]
)
def test_the_manual_has_every_setting(key: str) -> None:
    assert key in document("etc/calllogd.toml")


@pytest.mark.parametrize("command", COMMANDS)
def test_operators_read_of_every_command(command: str) -> None:
    assert f"`calllogd {command}" in document("docs/operators.md")


@pytest.mark.parametrize("name", sorted(services().keys() - {"generic"}))
def test_every_voip_service_has_a_page_with_its_settings(name: str) -> None:
    page = document(f"docs/voip/{name}.md")
    assert f"[accounts.voip.{name}]" in page
    assert f"/voip/{name}/" in page
    assert "curl" in page
    missing = [key for key in services()[name].settings if f"`{key}`" not in page and f"{key} =" not in page]
    assert not missing
    assert f"({name}.md)" in document("docs/voip/README.md")


@pytest.mark.parametrize("route", ROUTES)
def test_integrators_read_of_every_route(route: str) -> None:
    assert route in document("docs/integrators.md")


@pytest.mark.parametrize(("code", "problem"), PROBLEMS.items())
def test_integrators_read_of_every_error_code(code: str, problem: tuple[int, str]) -> None:
    assert f"| `{code}` | {problem[0]} |" in document("docs/integrators.md")


@pytest.mark.parametrize("state", CallState)
def test_the_life_of_a_call_has_every_state(state: CallState) -> None:
    assert f"| `{state.value}` |" in document("docs/lifecycle.md")


@pytest.mark.parametrize("event", EVENTS)
def test_operators_read_of_every_event_of_the_log(event: str) -> None:
    assert f"| `{event}` |" in document("docs/operators.md")


@pytest.mark.parametrize(
    "name", ["README.md", *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
)
def test_documents_refer_to_files_that_exist(name: str) -> None:
    words = document(name).replace("(", " ").replace(")", " ").replace("`", " ").split()
    paths = [word for word in words if word.startswith(("docs/", "etc/", "systemd/", "calllogd/", "tests/"))]
    missing = [path for path in paths if not (ROOT / path.rstrip(".,;:").partition("::")[0]).exists()]
    assert not missing

"""The configuration file as a manual: every setting with its meaning, its unit and its default.

It comes from the tables in `calllogd.config`, so a setting that is there is also in the file.
"""

import json
from collections.abc import Mapping

from calllogd.config import ACCOUNT, GENERIC, REQUIRED, SECTIONS, SERVICE, Setting
from calllogd.console.accounts import GENERIC_NAME
from calllogd.voip.provider import Service, services

_PREFACE = """\
# The configuration of calllogd: every setting, what it means and its default.
#
# `calllogd init` writes this file with your answers and with fresh secrets; `calllogd check` says what is
# wrong in it. A line such as `# key = value` is off: the setting is optional and nothing stands in for it.
#
# A secret `X` may be given as `X_file` instead, the name of a file that holds it: a systemd credential
# where the service is given any, else a file beside this one. Any setting may also come from the
# environment, where it wins: CALLLOGD_KOMMO__CLIENT_SECRET is client_secret of [kommo].
"""

_EXTENSIONS = """\

# the telephone extension of each user of Kommo, as `extension = id of the user`; it tells whose call it was
[accounts.extensions]
# 101 = 111
"""


def manual() -> str:
    """Return the configuration with every setting in it, as etc/calllogd.toml has it."""
    tables = {**SECTIONS, "account": ACCOUNT, "generic": GENERIC}
    examples = {
        f"{name}.{key}": str(setting.show)
        for name, settings in tables.items()
        for key, setting in settings.items()
        if setting.default is REQUIRED
    }
    return page(examples)


def page(values: Mapping[str, str]) -> str:
    """Return the whole file. `values` are TOML; settings without one have their default or are off."""
    tables = [_table(f"[{name}]", name, settings, values) for name, settings in SECTIONS.items()]
    account = _table("[[accounts]]", "account", ACCOUNT, values)
    generic = _table("[accounts.voip.generic]", "generic", GENERIC, values)
    more = "\n# A further account is a further [[accounts]] with all that follows it here."
    others = [_service(name, service) for name, service in services().items() if name != GENERIC_NAME]
    parts = [_PREFACE, *tables, more.strip(), account + _EXTENSIONS, generic, *others]
    return "\n".join(parts).rstrip() + "\n"


def _service(name: str, service: Service) -> str:
    """Return the table of a further VoIP service, which is off."""
    lines = [f"# {service.title}: docs/voip/{name}.md", f"#[accounts.voip.{name}]"]
    for key, setting in {**SERVICE, **service.settings}.items():
        value = '"…"' if setting.default is None and setting.show is None else _shown(setting)
        lines += [f"# {setting.meaning} [{_standing(setting)}]", f"#{key} = {value}"]
    return "\n".join([*lines, ""])


def _table(heading: str, name: str, settings: Mapping[str, Setting], values: Mapping[str, str]) -> str:
    lines = [heading]
    for key, setting in settings.items():
        value = values.get(f"{name}.{key}")
        off = value is None and (setting.default is None or setting.default is REQUIRED)
        lines.append(f"# {setting.meaning} [{_standing(setting)}]")
        lines.append(f"{'# ' if off else ''}{key} = {_shown(setting) if value is None else value}")
        if setting.secret:
            lines.append(f'# {key}_file = "{name}_{key}"')
        lines.append("")
    return "\n".join(lines)


def _standing(setting: Setting) -> str:
    if setting.default is REQUIRED:
        return "required"
    return "optional" if setting.default in (None, ()) else f"default: {_shown(setting)}"


def _shown(setting: Setting) -> str:
    return literal(setting.default) if setting.show is None else setting.show


def literal(value: str | int | float) -> str:
    """Return a value as TOML. JSON writes it alike, but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

"""What is not known of Kommo and can be had both ways, so that a client is tested against both."""

from dataclasses import asdict, dataclass
from typing import Any, Final

from calllogd.sandbox.given import fields_of

MIXED_STATUSES: Final = (200, 400)
JSON_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "mixed_status": (int,),
    "mixed_request_ids": (bool,),
    "merge_params": (bool,),
    "refresh_until_used": (bool,),
}


@dataclass(slots=True, kw_only=True)
class Rules:
    """The readings in force; they may be changed at any time. Raises ValueError for an impossible one."""

    mixed_status: int = 200
    """Status of a batch of calls of which some were made and some have a number nobody has: 200 or 400."""
    mixed_request_ids: bool = True
    """The errors of such a batch name the `request_id` of their call."""
    merge_params: bool = False
    """What an edit of a note leaves out of `params` stays; else it is gone."""
    refresh_until_used: bool = False
    """A refresh token stays good, and the access token beside it, until what it was exchanged for is used."""

    def __post_init__(self) -> None:
        if self.mixed_status not in MIXED_STATUSES:
            raise ValueError("mixed_status is 200 or 400")

    def change(self, value: Any) -> None:
        """Put other readings in force, those of a JSON object. Raises ValueError, and changes nothing."""
        changed = Rules(**(asdict(self) | fields_of(value, JSON_TYPES, "what to change")))
        self.mixed_status = changed.mixed_status
        self.mixed_request_ids = changed.mixed_request_ids
        self.merge_params = changed.merge_params
        self.refresh_until_used = changed.refresh_until_used

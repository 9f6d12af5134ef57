"""Each service tells of each kind of call, in any order and twice: it is the call of the scene."""

import random
import secrets

import pytest
from multidict import CIMultiDict

from calllogd.domain.call import Call, CallKey, RecordingState
from calllogd.domain.joining import as_part
from calllogd.domain.merge import fold
from calllogd.domain.phone import digits
from calllogd.voip.provider import services
from calllogd.voip.simulation import Kind, Scene, simulations
from calllogd.voip.webhook import Webhook
from tests.fakes import ACCOUNT, START
from tests.voip.configured import configured

TALES = [(name, kind) for name, simulation in simulations().items() for kind in sorted(simulation.kinds)]
ORDERS = 30


def test_every_service_has_a_simulation() -> None:
    assert simulations().keys() == services().keys() - {"mapping"}


def scene(kind: Kind, recording: str | None) -> Scene:
    return Scene(
        kind=kind,
        id=secrets.token_hex(16),
        phone="+12125550123",
        line="+15005550006",
        extensions=["101", "102", "103"],
        started_at=START - 70,
        ring_s=7,
        talk_s=62,
        recording=recording,
    )


@pytest.mark.parametrize(("name", "kind"), TALES)
def test_the_call_is_that_of_the_scene(name: str, kind: Kind) -> None:
    service, simulation = services()[name], simulations()[name]
    values = {**{key: setting.default for key, setting in service.settings.items()}, **configured(name)}
    provider = service.make(ACCOUNT, values, [])
    assert provider is not None
    url = f"https://calls.example.com/voip/{name}/{ACCOUNT}"
    # The orders are the same each time.
    chance = random.Random(f"{name} {kind}")  # noqa: S311
    for order in range(ORDERS):
        is_recorded = kind in simulation.recorded and (order % 2 or kind is Kind.RECORDING_FIRST)
        recording = "https://voip.example/1.mp3" if is_recorded else None
        played = scene(kind, recording)
        sent = list(simulation.messages(played, service.address(url, values), values, START))
        if order:
            sent += chance.choices(sent, k=3)
            chance.shuffle(sent)
        call: Call | None = None
        key, known = CallKey(ACCOUNT, simulation.call_id(played)), set()
        for message in sent:
            assert message.method in service.methods
            came = Webhook(
                method=message.method,
                url=message.url,
                headers=CIMultiDict(message.headers),
                body=message.body,
                rest=message.url.partition("?")[0].removeprefix(url).removeprefix("/"),
                peer="127.0.0.1",
            )
            assert service.handshake(came) is None
            provider.verify(came, START)
            for told in provider.parse(came, START):
                known.add(told.event.key)
                call = fold(call, as_part(told.event, key), START)
        assert call is not None
        facts = call.facts
        assert key in known
        assert len(known) == 1 + (kind in simulation.moved)
        assert facts.direction is played.direction
        assert digits(facts.phone or "") == digits(played.phone)
        assert facts.person is not None
        assert facts.person.extension == played.extension
        assert facts.outcome == (played.status, played.talk)
        assert facts.started_at is None or abs(facts.started_at - played.started_at) <= 2
        assert (call.recording.state is RecordingState.EXPECTED) == (recording is not None)

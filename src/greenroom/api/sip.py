"""Client of the SIP service (needs a server with SIP workers)."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from google.protobuf.message import Message
from livekit.protocol import models, sip as messages

from .grants import SIPGrants, VideoGrants
from .services import Service

__all__ = ["SipService"]

Response = TypeVar("Response", bound=Message)

RINGING_SECONDS = 30
"""How long a call rings when the request does not say: the server's own default."""
RINGING_MARGIN = 2.0
"""Seconds a request waits beyond the ringing, so that the answer of the last second still arrives."""


class SipService(Service):
    """Trunks, dispatch rules and calls."""

    name = "SIP"

    async def _manage(self, method: str, request: Message, response: type[Response]) -> Response:
        return await self._call(method, request, response, VideoGrants(), sip=SIPGrants(admin=True))

    async def create_inbound_trunk(self, create: messages.CreateSIPInboundTrunkRequest) -> messages.SIPInboundTrunkInfo:
        return await self._manage("CreateSIPInboundTrunk", create, messages.SIPInboundTrunkInfo)

    async def update_inbound_trunk(
        self, trunk_id: str, trunk: messages.SIPInboundTrunkInfo
    ) -> messages.SIPInboundTrunkInfo:
        request = messages.UpdateSIPInboundTrunkRequest(sip_trunk_id=trunk_id, replace=trunk)
        return await self._manage("UpdateSIPInboundTrunk", request, messages.SIPInboundTrunkInfo)

    async def update_inbound_trunk_fields(self, trunk_id: str, **fields: Any) -> messages.SIPInboundTrunkInfo:
        """Change some fields of `SIPInboundTrunkUpdate`; a list replaces, a `ListUpdate` edits."""
        update = _update(messages.SIPInboundTrunkUpdate, fields)
        request = messages.UpdateSIPInboundTrunkRequest(sip_trunk_id=trunk_id, update=update)
        return await self._manage("UpdateSIPInboundTrunk", request, messages.SIPInboundTrunkInfo)

    async def create_outbound_trunk(
        self, create: messages.CreateSIPOutboundTrunkRequest
    ) -> messages.SIPOutboundTrunkInfo:
        return await self._manage("CreateSIPOutboundTrunk", create, messages.SIPOutboundTrunkInfo)

    async def update_outbound_trunk(
        self, trunk_id: str, trunk: messages.SIPOutboundTrunkInfo
    ) -> messages.SIPOutboundTrunkInfo:
        request = messages.UpdateSIPOutboundTrunkRequest(sip_trunk_id=trunk_id, replace=trunk)
        return await self._manage("UpdateSIPOutboundTrunk", request, messages.SIPOutboundTrunkInfo)

    async def update_outbound_trunk_fields(self, trunk_id: str, **fields: Any) -> messages.SIPOutboundTrunkInfo:
        """Change some fields of `SIPOutboundTrunkUpdate`; a list replaces, a `ListUpdate` edits."""
        update = _update(messages.SIPOutboundTrunkUpdate, fields)
        request = messages.UpdateSIPOutboundTrunkRequest(sip_trunk_id=trunk_id, update=update)
        return await self._manage("UpdateSIPOutboundTrunk", request, messages.SIPOutboundTrunkInfo)

    async def list_inbound_trunk(
        self, list: messages.ListSIPInboundTrunkRequest
    ) -> messages.ListSIPInboundTrunkResponse:
        return await self._manage("ListSIPInboundTrunk", list, messages.ListSIPInboundTrunkResponse)

    async def list_outbound_trunk(
        self, list: messages.ListSIPOutboundTrunkRequest
    ) -> messages.ListSIPOutboundTrunkResponse:
        return await self._manage("ListSIPOutboundTrunk", list, messages.ListSIPOutboundTrunkResponse)

    async def delete_trunk(self, delete: messages.DeleteSIPTrunkRequest) -> messages.SIPTrunkInfo:
        return await self._manage("DeleteSIPTrunk", delete, messages.SIPTrunkInfo)

    async def create_dispatch_rule(self, create: messages.CreateSIPDispatchRuleRequest) -> messages.SIPDispatchRuleInfo:
        return await self._manage("CreateSIPDispatchRule", create, messages.SIPDispatchRuleInfo)

    async def update_dispatch_rule(
        self, rule_id: str, rule: messages.SIPDispatchRuleInfo
    ) -> messages.SIPDispatchRuleInfo:
        request = messages.UpdateSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id, replace=rule)
        return await self._manage("UpdateSIPDispatchRule", request, messages.SIPDispatchRuleInfo)

    async def update_dispatch_rule_fields(self, rule_id: str, **fields: Any) -> messages.SIPDispatchRuleInfo:
        """Change some fields of `SIPDispatchRuleUpdate`; a list replaces, a `ListUpdate` edits."""
        update = _update(messages.SIPDispatchRuleUpdate, fields)
        request = messages.UpdateSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id, update=update)
        return await self._manage("UpdateSIPDispatchRule", request, messages.SIPDispatchRuleInfo)

    async def list_dispatch_rule(
        self, list: messages.ListSIPDispatchRuleRequest
    ) -> messages.ListSIPDispatchRuleResponse:
        return await self._manage("ListSIPDispatchRule", list, messages.ListSIPDispatchRuleResponse)

    async def delete_dispatch_rule(self, delete: messages.DeleteSIPDispatchRuleRequest) -> messages.SIPDispatchRuleInfo:
        return await self._manage("DeleteSIPDispatchRule", delete, messages.SIPDispatchRuleInfo)

    create_sip_inbound_trunk = create_inbound_trunk
    update_sip_inbound_trunk = update_inbound_trunk
    update_sip_inbound_trunk_fields = update_inbound_trunk_fields
    create_sip_outbound_trunk = create_outbound_trunk
    update_sip_outbound_trunk = update_outbound_trunk
    update_sip_outbound_trunk_fields = update_outbound_trunk_fields
    list_sip_inbound_trunk = list_inbound_trunk
    list_sip_outbound_trunk = list_outbound_trunk
    delete_sip_trunk = delete_trunk
    create_sip_dispatch_rule = create_dispatch_rule
    update_sip_dispatch_rule = update_dispatch_rule
    update_sip_dispatch_rule_fields = update_dispatch_rule_fields
    list_sip_dispatch_rule = list_dispatch_rule
    delete_sip_dispatch_rule = delete_dispatch_rule

    async def create_sip_participant(
        self,
        create: messages.CreateSIPParticipantRequest,
        *,
        timeout: float | None = None,
        trunk_id: str | None = None,
        outbound_trunk_config: messages.SIPOutboundConfig | None = None,
    ) -> messages.SIPParticipantInfo:
        """Call somebody into a room. `timeout`: seconds; with `wait_until_answered` at least as long as the ringing."""
        if trunk_id:
            create.sip_trunk_id = trunk_id
        if outbound_trunk_config is not None:
            create.trunk.CopyFrom(outbound_trunk_config)
        if create.wait_until_answered:
            timeout = _ringing_timeout(create, timeout)
        sip = SIPGrants(call=True)
        return await self._call(
            "CreateSIPParticipant", create, messages.SIPParticipantInfo, VideoGrants(), sip=sip, timeout=timeout
        )

    async def transfer_sip_participant(
        self, transfer: messages.TransferSIPParticipantRequest, *, timeout: float | None = None
    ) -> messages.TransferSIPParticipantResponse:
        grants = VideoGrants(room_admin=True, room=transfer.room_name)
        return await self._call(
            "TransferSIPParticipant",
            transfer,
            messages.TransferSIPParticipantResponse,
            grants,
            sip=SIPGrants(call=True),
            timeout=_ringing_timeout(transfer, timeout),
        )


def _ringing_timeout(request: Any, timeout: float | None) -> float:
    if not request.HasField("ringing_timeout"):
        request.ringing_timeout.seconds = RINGING_SECONDS
    ringing = request.ringing_timeout
    floor = float(math.ceil(ringing.seconds + ringing.nanos / 1e9) + RINGING_MARGIN)
    return max(timeout or 0.0, floor)


def _update(kind: type[Response], fields: dict[str, Any]) -> Response:
    values = {}
    for name, value in fields.items():
        if value is None:
            continue
        field = kind.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            raise TypeError(f"{kind.DESCRIPTOR.name} has no field {name!r}")
        is_list = field.message_type is not None and field.message_type.name == "ListUpdate"
        values[name] = models.ListUpdate(set=value) if is_list and isinstance(value, list) else value
    return kind(**values)

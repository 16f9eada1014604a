"""Egress, ingress and SIP: services whose workers are separate programs. None is connected, and callers are told so."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message
from livekit.protocol import egress, ingress, sip

from ..auth import Auth, AuthError
from ..twirp import Rpc, TwirpError

__all__ = ["not_connected_rpcs"]

Check = Callable[[Auth], bool]


def _service(name: str, check: Check, methods: dict[str, type[Message]]) -> dict[str, Rpc]:
    async def refuse(auth: Auth, _request: Message) -> Message:
        if not check(auth):
            raise AuthError()
        raise TwirpError("internal", f"{name} not connected (redis required)")

    return {method: Rpc(request, refuse) for method, request in methods.items()}


def not_connected_rpcs() -> dict[str, dict[str, Rpc]]:
    """By service. The grant is checked first, as if they were there."""
    calls: dict[str, type[Message]] = {
        "CreateSIPParticipant": sip.CreateSIPParticipantRequest,
        "TransferSIPParticipant": sip.TransferSIPParticipantRequest,
    }
    return {
        "Egress": _service(
            "egress",
            lambda auth: bool(auth.video.room_record),
            {
                "StartEgress": egress.StartEgressRequest,
                "StartRoomCompositeEgress": egress.RoomCompositeEgressRequest,
                "StartWebEgress": egress.WebEgressRequest,
                "StartParticipantEgress": egress.ParticipantEgressRequest,
                "StartTrackCompositeEgress": egress.TrackCompositeEgressRequest,
                "StartTrackEgress": egress.TrackEgressRequest,
                "UpdateLayout": egress.UpdateLayoutRequest,
                "UpdateStream": egress.UpdateStreamRequest,
                "ListEgress": egress.ListEgressRequest,
                "StopEgress": egress.StopEgressRequest,
            },
        ),
        "Ingress": _service(
            "ingress",
            lambda auth: bool(auth.video.ingress_admin),
            {
                "CreateIngress": ingress.CreateIngressRequest,
                "UpdateIngress": ingress.UpdateIngressRequest,
                "ListIngress": ingress.ListIngressRequest,
                "DeleteIngress": ingress.DeleteIngressRequest,
            },
        ),
        "SIP": _service(
            "sip",
            lambda auth: bool(auth.claims.sip and auth.claims.sip.admin),
            {
                "ListSIPTrunk": sip.ListSIPTrunkRequest,
                "CreateSIPInboundTrunk": sip.CreateSIPInboundTrunkRequest,
                "UpdateSIPInboundTrunk": sip.UpdateSIPInboundTrunkRequest,
                "GetSIPInboundTrunk": sip.GetSIPInboundTrunkRequest,
                "ListSIPInboundTrunk": sip.ListSIPInboundTrunkRequest,
                "CreateSIPOutboundTrunk": sip.CreateSIPOutboundTrunkRequest,
                "UpdateSIPOutboundTrunk": sip.UpdateSIPOutboundTrunkRequest,
                "GetSIPOutboundTrunk": sip.GetSIPOutboundTrunkRequest,
                "ListSIPOutboundTrunk": sip.ListSIPOutboundTrunkRequest,
                "DeleteSIPTrunk": sip.DeleteSIPTrunkRequest,
                "CreateSIPDispatchRule": sip.CreateSIPDispatchRuleRequest,
                "UpdateSIPDispatchRule": sip.UpdateSIPDispatchRuleRequest,
                "ListSIPDispatchRule": sip.ListSIPDispatchRuleRequest,
                "DeleteSIPDispatchRule": sip.DeleteSIPDispatchRuleRequest,
            },
        )
        | _service("sip", lambda auth: bool(auth.claims.sip and auth.claims.sip.call), calls),
    }

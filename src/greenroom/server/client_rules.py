"""What some clients cannot do, whatever they say in their offers."""

from __future__ import annotations

from livekit.protocol import models

__all__ = ["client_configuration", "publishable_codecs", "receivable_codecs"]


def client_configuration(client: models.ClientInfo) -> models.ClientConfiguration:
    """`JoinResponse.client_configuration`: codecs this client must not use at all, and those it must not publish."""
    unusable: list[str] = []
    unpublishable: list[str] = []
    browser, os = client.browser.lower(), client.os.lower()
    if browser == "safari":
        unusable.append("video/AV1")
        if _version(client.browser_version) > (18, 3):
            unpublishable.append("video/VP9")
    if browser == "firefox" and os in ("linux", "android"):
        unpublishable.append("video/H264")
    if client.device_model.lower() == "xiaomi 2201117ti" and os == "android":
        unpublishable.append("video/H264")
    configuration = models.ClientConfiguration()
    if unusable or unpublishable:
        disabled = configuration.disabled_codecs
        disabled.codecs.extend(models.Codec(mime=mime) for mime in unusable)
        disabled.publish.extend(models.Codec(mime=mime) for mime in unpublishable)
    return configuration


def receivable_codecs(enabled: tuple[str, ...], configuration: models.ClientConfiguration) -> tuple[str, ...]:
    """Of the enabled MIME types those that this client may be sent."""
    return _without(enabled, [codec.mime for codec in configuration.disabled_codecs.codecs])


def publishable_codecs(enabled: tuple[str, ...], configuration: models.ClientConfiguration) -> tuple[str, ...]:
    """Of the enabled MIME types those that this client may publish."""
    publish = [codec.mime for codec in configuration.disabled_codecs.publish]
    return _without(receivable_codecs(enabled, configuration), publish)


def _without(enabled: tuple[str, ...], disabled: list[str]) -> tuple[str, ...]:
    gone = {mime.lower() for mime in disabled}
    return tuple(mime for mime in enabled if mime.lower() not in gone)


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")
    return tuple(int(part) for part in parts[:2] if part.isascii() and part.isdigit() and len(part) < 6)

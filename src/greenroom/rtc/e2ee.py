"""Options of end-to-end encryption.

They are here so that programs which name them load. `Room.connect` refuses to connect with them rather than to send
in the clear what was meant to be secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .enums import EncryptionType, KeyDerivationFunction


@dataclass
class KeyProviderOptions:
    shared_key: bytes | None = None
    ratchet_salt: bytes = b"LKFrameEncryptionKey"
    ratchet_window_size: int = 16
    failure_tolerance: int = -1
    key_ring_size: int = 16
    key_derivation_function: KeyDerivationFunction = KeyDerivationFunction.PBKDF2


@dataclass
class E2EEOptions:
    key_provider_options: KeyProviderOptions = field(default_factory=KeyProviderOptions)
    encryption_type: EncryptionType = EncryptionType.GCM


class E2EEManager:
    """Says what is true of every room today: not end-to-end encrypted."""

    @property
    def enabled(self) -> bool:
        return False

    @property
    def key_provider(self) -> None:
        return None

    def set_enabled(self, enabled: bool) -> None:
        """ValueError when asked to enable it."""
        if enabled:
            raise ValueError("greenroom.rtc cannot encrypt end to end")

    def frame_cryptors(self) -> list[object]:
        return []

"""The room server: an SFU that speaks the LiveKit wire protocol. Python decides, the native core moves the packets."""

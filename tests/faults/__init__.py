"""The fault suite: real processes that are killed, frozen and cut off while clients read."""

"""What a process that holds keys and messages does about itself."""

import resource


def keep_secrets_in_memory() -> None:
    """See to it that a crash leaves nothing of them on disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

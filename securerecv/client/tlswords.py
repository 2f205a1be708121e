"""OpenSSL's errors, in words."""

from OpenSSL import SSL


def tls_words(reason: SSL.Error) -> str:
    """Give the last of OpenSSL's reasons, where it gives any."""
    match reason.args:
        case ([*_, (*_, words)],):
            return str(words)
        case _:
            return "the handshake was broken off"

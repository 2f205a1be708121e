"""
A secure receiver for confidential messages and files.

People and devices send to it over TCP (TLS 1.3); each user's box keeps the
last few messages, encrypted so that only its owner can open them.  Run it as
``twistd -n securerecv`` or ``securerecv serve``.
"""

__version__ = "0.1.0"

"""Tells twistd that there is a service named securerecv."""

from twisted.application.service import ServiceMaker

securerecv = ServiceMaker(
    "securerecv",
    "securerecv.tap",
    "A receiver of confidential messages over TLS.",
    "securerecv",
)

"""Tells twistd that there is a service named securerecv, and a kind of --auth."""

from twisted.application.service import ServiceMaker

from securerecv.auth import CheckerFactory

securerecv = ServiceMaker(
    "securerecv",
    "securerecv.tap",
    "A receiver of confidential messages and files, over TCP and UDP.",
    "securerecv",
)
accounts = CheckerFactory()

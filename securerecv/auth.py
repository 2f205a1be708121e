"""
``twistd … --auth securerecv:/path/to/data``: these accounts in any Twisted server.

Twisted imports this for every ``twistd``, so it imports little.
"""

from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory
from twisted.plugin import IPlugin
from zope.interface import implementer

_HELP = """
Checks user names and passwords against the accounts of a securerecv data folder,
also while a securerecv server runs with it. The argument is the folder; without
one it is ./var. What SECURERECV_STORE and other SECURERECV_ variables say holds
here too. Accounts are made with: securerecv account add NAME
"""


@implementer(ICheckerFactory, IPlugin)
class CheckerFactory:
    """Makes checkers from what stands behind ``--auth securerecv:``."""

    authType = "securerecv"
    authHelp = _HELP
    argStringFormat = "The data folder. (default: ./var)"
    credentialInterfaces = (IUsernamePassword,)

    def generateChecker(self, argstring: str) -> Any:
        """
        Make a checker.

        Args:
            argstring: the data folder, or empty.

        Raises:
            OperatorError: the folder or the store must be mended first; twistd
                prints the words and ends with its usage.
        """
        from twisted.internet import reactor

        from securerecv.assembly.accountchecker import open_checker
        from securerecv.settings import load

        settings = load({"data": argstring} if argstring else {})
        return ICredentialsChecker(open_checker(settings, reactor))

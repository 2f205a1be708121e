"""
Many connections that a reactor sees as one file descriptor.

A reactor spends several microseconds on each descriptor that is ready, which is
as much as a short message takes otherwise.  An epoll object can be waited for
itself (epoll(7)): the reactor hears of it once a turn, however many of its
connections have something to do.
"""

import select
from typing import Any

from twisted.internet.interfaces import (
    IReactorFDSet,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_log = Logger()


def set_on(reactor: IReactorFDSet) -> IReactorFDSet:
    """Give an `EpollSet` where the system has epoll, otherwise the reactor itself."""
    return EpollSet(reactor) if hasattr(select, "epoll") else reactor


@implementer(IReactorFDSet, IReadDescriptor)
class EpollSet:
    """
    A set of descriptors.

    To them it is what a reactor is.  The reactor knows of it while there is
    anything in it.

    Args:
        reactor: tells when one of them is ready.
    """

    def __init__(self, reactor: IReactorFDSet) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._members: dict[int, Any] = {}
        self._wanted: dict[int, int] = {}

    # -- for the descriptors ----------------------------------------------------------

    def addReader(self, reader: IReadDescriptor) -> None:
        """Call its `doRead` when it can be read, or has failed."""
        self._want(reader, select.EPOLLIN, 0)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Do so no more."""
        self._want(reader, 0, select.EPOLLIN)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Call its `doWrite` when it can be written, or has failed."""
        self._want(writer, select.EPOLLOUT, 0)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """Do so no more."""
        self._want(writer, 0, select.EPOLLOUT)

    def removeAll(self) -> list[Any]:
        """Remove all descriptors, and give them."""
        members = list(self._members.values())
        for member in members:
            self._want(member, 0, select.EPOLLIN | select.EPOLLOUT)
        return members

    def getReaders(self) -> list[Any]:
        """Give those that are to be read."""
        return self._those_who_want(select.EPOLLIN)

    def getWriters(self) -> list[Any]:
        """Give those that are to be written."""
        return self._those_who_want(select.EPOLLOUT)

    def _those_who_want(self, event: int) -> list[Any]:
        return [
            member
            for number, member in self._members.items()
            if self._wanted[number] & event
        ]

    def _want(self, member: Any, more: int, less: int) -> None:
        number = member.fileno()
        before = self._wanted.get(number, 0)
        events = (before | more) & ~less
        if events == before:
            return
        if not before:
            self._epoll.register(number, events)
            self._members[number] = member
            self._reactor.addReader(self)
        elif events:
            self._epoll.modify(number, events)
        else:
            self._epoll.unregister(number)
            del self._members[number]
            del self._wanted[number]
            if not self._members:
                self._reactor.removeReader(self)
            return
        self._wanted[number] = events

    # -- for the reactor ------------------------------------------------------------

    def fileno(self) -> int:
        """Give the number of the epoll object."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """Name it for the log."""
        return type(self).__name__

    def doRead(self) -> None:
        """Let all read and write that can."""
        for number, events in self._epoll.poll(0):
            member = self._members.get(number)
            if member is None:
                continue  # another one of this turn has had it removed
            try:
                self._serve(member, events, self._wanted[number])
            except Exception:  # noqa: BLE001 - whatever it is, the others go on
                _log.failure("a connection is ended by an error")
                self._end(member, Failure())

    @staticmethod
    def _serve(member: Any, events: int, wanted: int) -> None:
        if not events & (select.EPOLLIN | select.EPOLLOUT):
            events = wanted  # it has failed: reading or writing tells why
        if events & select.EPOLLIN:
            member.doRead()
        if events & select.EPOLLOUT:
            member.doWrite()

    def connectionLost(self, reason: Failure) -> None:
        """End all: the reactor has stopped."""
        for member in self.removeAll():
            self._end(member, reason)

    @staticmethod
    def _end(member: Any, reason: Failure) -> None:
        try:
            member.connectionLost(reason)
        except Exception:  # noqa: BLE001 - whatever it is, the others go on
            _log.failure("a connection could not be ended in order")

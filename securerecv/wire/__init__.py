"""What is said: the protocol, without sockets, clocks or threads."""

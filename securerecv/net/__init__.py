"""How it travels: sockets, TLS, and limits on who may hold them."""

"""The parts of a receiver, put together; `securerecv.service` makes one of them."""

"""
Bounds on what a peer may make the server hold, wait for or do.

The first group is fixed by the protocol, the second is tuning.  Limits that
an operator sets are in `securerecv.settings`.
"""

# -- fixed by the protocol (docs/protocol.md) --------------------------------

MAX_LINE_BYTES = 4096
"""A request line, without its line end."""

MAX_TAG_CHARACTERS = 16
ANONYMOUS_ADDRESS_CHARACTERS = 16
MAX_FILE_NAME_BYTES = 255

MAX_SCANNED_BYTES = 2**31 - 3
"""Not the protocol's but ClamAV's: it looks into no file that is larger."""

# -- tuning -------------------------------------------------------------------

MAX_NAME_CHARACTERS = 64
MAX_PASSWORD_CHARACTERS = 1024
MAX_PASSWORD_BYTES = 3 * MAX_PASSWORD_CHARACTERS
"""As UTF-8; with it, a name and a tag there is room in a request line."""

MAX_LABEL_CHARACTERS = 64

MAX_TOKENS_PER_ACCOUNT = 100
"""All of them are in memory, about 0.4 KiB each."""

LOGIN_TIMEOUT_S = 120.0
"""From the greeting to a successful LOGIN or ANON."""

HANDSHAKE_TIMEOUT_S = 15.0
"""From the connection to the end of the TLS handshake."""

REQUEST_TIMEOUT_S = 60.0
"""From the first byte of a request to its last, payload time aside."""

MIN_PAYLOAD_BYTES_PER_S = 8192
"""A payload of n bytes may take ``n / MIN_PAYLOAD_BYTES_PER_S`` longer."""

IDLE_TIMEOUT_S = 900.0
"""Between two requests of a conversation that does not watch."""

UNREAD_TIMEOUT_S = 60.0
"""How long a peer may leave its answers unread before it is dropped."""

MAX_POSTS_IN_FLIGHT = 1024
"""Messages of one conversation that wait for their commit."""

MAX_POST_BYTES_IN_FLIGHT = 4 * 1024 * 1024
"""Their bodies together; one message of any allowed size always fits."""

MAX_BUFFERED_PAYLOAD_BYTES = 256 * 1024 * 1024
"""Bodies being received or stored, over all conversations together."""

MAX_UNREAD_BYTES = 256 * 1024 * 1024
"""Answers that peers do not read, over all conversations together."""

MAX_SKIPPED_PAYLOAD_BYTES = 16 * 1024 * 1024
"""A payload so far over the limit is read past; beyond, the peer is left."""

MAX_UNREAD_PUSH_BYTES = 1024 * 1024
"""Unread bytes from which on a watching peer is told nothing more."""

MAKE_WAY_S = 1.0
"""What a connection that makes way has left to take its last words."""

MAX_CONNECTIONS = 8192
MAX_CONNECTIONS_PER_ADDRESS = 2048
MAX_HANDSHAKES = 1024
"""TLS handshakes under way at once, over all addresses."""

MAX_DATAGRAM_CONVERSATIONS = 4096
MAX_DATAGRAM_HANDSHAKES = 256
MAX_DATAGRAM_HANDSHAKES_PER_ADDRESS = 64
"""The same over UDP, where OpenSSL keeps its buffers from the first byte on."""

MAX_LANES = 64
MAX_LANES_PER_ADDRESS = 16
"""Files that travel over UDP at once, either way."""

LANE_WINDOW_BYTES = 16 * 1024 * 1024
"""
What one lane may hold of a file.

On a path that loses packets some byte is nearly always missing, for two to three
round trips: 100 MB a second over 50 ms needs 15 MB.
"""

LEAST_LANE_WINDOW_BYTES = 4 * 1024 * 1024
"""What each may hold even when all places are taken."""

MAX_LANE_BYTES = 512 * 1024 * 1024
"""What all of them together may hold."""

GOODBYE_S = 5.0
"""What conversations have left to finish when the server stops."""

MAX_QUEUED_LOGINS = 128
MAX_QUEUED_LOGINS_PER_ADDRESS = 64

FREE_FAILURES_PER_ADDRESS = 60
FREE_FAILURES_PER_ACCOUNT_AND_ADDRESS = 12
FREE_FAILURES_PER_ACCOUNT = 120
FAILURE_FORGIVEN_AFTER_S = 60.0
"""How long it takes until one failed login is forgiven."""

MAX_LOGIN_WAIT_S = 900.0
MAX_ACCOUNT_LOGIN_WAIT_S = 60.0
"""For waits caused by other people's failures against one's account."""

MAX_THROTTLE_KEYS = 65536

EPOCH_S = 3600.0
"""How long one epoch key of a box is used before it is forgotten."""

MAX_CACHED_BOXES = 16384
MAX_CACHED_UNKNOWN_NAMES = 16384

MAX_FILES_PER_BOX = 100
"""Of which anonymous senders may have half."""

MAX_UPLOADS = 64
MAX_UPLOADS_PER_ADDRESS = 16
"""Of both, anonymous senders may have half."""

MAX_DOWNLOADS = 64
MAX_DOWNLOADS_PER_ADDRESS = 16
"""Each holds up to 2 MiB of a file in memory."""

VERDICT_WAIT_S = 5.0
"""How long the answer to a file waits for its scan."""

MAX_REMEMBERED_DIGESTS = 1024
"""Of unfinished files, so that they go on without being read again."""

MAX_SCANS = 2
"""Each holds a whole file in memory."""

HELD_AGAIN_AFTER_S = 5.0
MAX_HELD_AGAIN_AFTER_S = 300.0
"""When a file that was held is scanned again: at first, and at last."""

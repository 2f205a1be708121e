"""File names that came from elsewhere, made harmless."""

import unicodedata

from securerecv.errors import PeerError
from securerecv.limits import MAX_FILE_NAME_BYTES
from securerecv.names import file_name

# A name may look like another with what reverses the direction of writing, hide
# from a listing with a dot, and be taken for an option with a dash.
_INVISIBLE = "Cf"
_NOT_IN_FRONT = ".-~"


def safe_file_name(written: str, *, otherwise: str) -> str:
    """
    Make of a name one that a file may have in one's own folder.

    Args:
        written: by a sender, who may mean harm.
        otherwise: what to call it if that is no name.

    Returns:
        A name without folders, control characters and invisible ones, which
        begins with none of ``. - ~``.
    """
    try:
        name = file_name(written)
    except PeerError:
        return otherwise
    name = "".join("_" if unicodedata.category(c) == _INVISIBLE else c for c in name)
    if name[0] in _NOT_IN_FRONT:
        name = f"_{name[1:]}"
    return name if len(name.encode()) <= MAX_FILE_NAME_BYTES else otherwise

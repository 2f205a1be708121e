"""
Where a clamd of our own lives: a private folder in memory, and what is in it.

clamd unpacks archives into files.  They are somebody's content in clear, so they
must never be on a disk: the folder is in a file system that is in memory.
"""

import os
import pwd
import re
import shutil
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from attrs import frozen

from securerecv.errors import ScannerError
from securerecv.limits import MAX_SCANNED_BYTES
from securerecv.scanning.verdicts import MEMBER_TOO_LARGE

_PROGRAM_FOLDERS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/clamav/sbin"
_MEMORY_TYPES = {"tmpfs", "ramfs"}
_MEMORY_FOLDERS = ("/dev/shm", "/run/shm", "/tmp", "/run")  # noqa: S108 - a new folder is made inside
_PREFIX = "securerecv-clamd-"
# What libclamav takes for signatures (its readdb.h, CLI_DBEXT), and files that go
# with them.
_SIGNATURE_SUFFIX = re.compile(
    r"\.(cat|cbc|cdb|cfg|cld|crb|cud|cvd|db|fp|ftm|gdb|hdb|hdu|hsb|hsu|idb|ign2?|imp"
    r"|info|ioc|ldb|ldu|mdb|mdu|msb|msu|ndb|ndu|pdb|pwdb|rmd|sdb|sfp|wdb|yara?|zmd)",
    re.IGNORECASE,
)
# Of these the ones by which nothing is found: what is known to be good or is to be
# passed over, settings, and what is said of other files.
_FINDS_NOTHING = re.compile(
    r"\.(cat|cfg|crb|fp|ftm|ign2?|info|pwdb|sfp|wdb)", re.IGNORECASE
)

_MIN_UNPACKED_BYTES = 400 * 1024 * 1024
_UNPACKED_PER_BYTE = 4
_MIN_SCAN_TIME_S = 120
_SCAN_BYTES_PER_S = 4 * 1024 * 1024

# Of a member of a ZIP file that is larger than MaxFileSize the beginning is looked at,
# and the rest is passed over without a word.  Up to there MaxScanSize is exceeded
# first, which is reported; from there on these signatures, of what the archive's
# directory says, report it.  Packed, a member is no larger than the whole, or it is
# written in ZIP64's way, as 2**32 - 1 (a range, because ClamAV takes that number
# alone for any).  Without this, chance headers in random bytes are met: they held
# about one file of 100 MiB in a hundred, and one of 512 MiB in sixteen.
_OWN_SIGNATURES = """\
{name}:*:*:*:0-{max_file}:{from_bytes}-4294967295:*:*:*:*
{name}:*:*:*:4294967294-4294967295:{from_bytes}-4294967295:*:*:*:*
"""
_OWN_SIGNATURES_FILE = "securerecv.cdb"

_CONFIGURATION = """\
Foreground yes
LocalSocket {home.socket}
LocalSocketMode 600
TemporaryDirectory {home.temporary}
LeaveTemporaryFiles no
DatabaseDirectory {home.signatures}
# The server looks after the signatures, so that it knows which are loaded.
SelfCheck 0
ConcurrentDatabaseReload yes
# It remembers by MD5 what was clean, and MD5 can be made to collide.
DisableCache yes
MaxThreads 4
AlertExceedsMax yes
AlertEncrypted yes
# Of all limits, only those that are reported when they are exceeded may be reached
# by a file that is taken.
MaxFileSize {largest}
StreamMaxLength {largest}
PCREMaxFileSize {largest}
MaxEmbeddedPE {largest}
MaxHTMLNormalize {largest}
MaxHTMLNoTags {largest}
MaxScriptNormalize {largest}
MaxScanSize {unpacked}
MaxScanTime {time_ms}
MaxRecursion 17
MaxFiles 10000
"""


@frozen
class Home:
    """
    The folder of one clamd.

    Attributes:
        folder: of mode 0700, in memory.
        user: who clamd runs as; None for the server's own user.
    """

    folder: Path
    user: pwd.struct_passwd | None = None

    @property
    def configuration(self) -> Path:
        """What clamd is started with."""
        return self.folder / "clamd.conf"

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.folder / "clamd.sock"

    @property
    def signatures(self) -> Path:
        """Links to the operator's signatures, and a file of ours."""
        return self.folder / "signatures"

    @property
    def loaded(self) -> Path:
        """The fingerprint of the signatures that it has loaded."""
        return self.folder / "loaded"

    @property
    def temporary(self) -> Path:
        """Where it unpacks archives."""
        return self.folder / "unpacked"

    def link(self, signatures: Path) -> None:
        """Make the links as the operator's folder now is."""
        names = {path.name for path in signature_files(signatures)}
        for path in list(self.signatures.iterdir()):
            if path.is_symlink() and path.name not in names:
                path.unlink()
        for name in names:
            link = self.signatures / name
            if not link.is_symlink() and name != _OWN_SIGNATURES_FILE:
                link.symlink_to((signatures / name).absolute())

    def remove(self) -> None:
        """Delete it, with whatever clamd has left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def make_home(signatures: Path, max_file: int) -> Home:
    """
    Make a folder that clamd can be started in.

    Args:
        signatures: the operator's folder.
        max_file: the largest file that is received, bytes.

    Raises:
        ScannerError: there are no signatures, or no room in memory.
    """
    lack = lack_of_signatures(signatures)
    if lack:
        # It would start with ours alone, and call everything clean.
        raise ScannerError(lack)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=memory_folder()))
        try:
            home = Home(folder, _somebody_else(signatures))
            _fill(home, signatures, max_file)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise ScannerError(f"no folder for clamd can be made: {error}") from None
    return home


def _fill(home: Home, signatures: Path, max_file: int) -> None:
    """Put into a folder what clamd is started with."""
    home.signatures.mkdir()
    home.temporary.mkdir(0o700)
    own = home.signatures / _OWN_SIGNATURES_FILE
    own.write_text(
        _OWN_SIGNATURES.format(
            name=MEMBER_TOO_LARGE, max_file=max_file, from_bytes=MAX_SCANNED_BYTES
        ),
        encoding="ascii",
    )
    home.link(signatures)
    home.configuration.write_text(
        _CONFIGURATION.format(
            home=home,
            largest=MAX_SCANNED_BYTES,
            unpacked=most_unpacked(max_file),
            time_ms=1000 * (_MIN_SCAN_TIME_S + max_file // _SCAN_BYTES_PER_S),
        ),
        encoding="utf-8",
    )
    if home.user is not None:
        for path in (home.folder, *home.folder.iterdir(), own):
            os.chown(path, home.user.pw_uid, home.user.pw_gid)


def is_home(folder: Path) -> bool:
    """Tell whether something is a folder that `make_home` has made."""
    return folder.name.startswith(_PREFIX) and folder.is_dir()


def most_unpacked(max_file: int) -> int:
    """Give how many bytes clamd looks at, and unpacks, for one file."""
    return max(_MIN_UNPACKED_BYTES, _UNPACKED_PER_BYTE * max_file)


def memory_folder() -> str:
    """
    Find the file system in memory that has most room.

    Raises:
        ScannerError: there is none.
    """
    found = [
        folder
        for folder in _MEMORY_FOLDERS
        if os.access(folder, os.W_OK | os.X_OK) and is_memory(Path(folder))
    ]
    if not found:
        raise ScannerError(
            "no folder is in memory, and archives must not be unpacked to a disk:"
            " mount a tmpfs at /dev/shm"
        )
    return max(found, key=lambda folder: shutil.disk_usage(folder).free)


def is_memory(folder: Path) -> bool:
    """Tell whether what is written into a folder stays off disks."""
    wanted, best, kind = str(folder.resolve()), "", ""
    with Path("/proc/self/mounts").open(encoding="utf-8", errors="replace") as mounts:
        for mount in mounts:
            _, point, mounted, *_ = mount.split(" ")
            inside = point == "/" or f"{wanted}/".startswith(f"{point}/")
            if inside and len(point) >= len(best):
                best, kind = point, mounted
    return kind in _MEMORY_TYPES


def find_program() -> str | None:
    """Find clamd, also where only administrators' shells look."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which("clamd", path=f"{path}:{_PROGRAM_FOLDERS}")


def signature_files(folder: Path) -> list[Path]:
    """List what clamd would load, by name."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return []
    return [p for p in paths if _SIGNATURE_SUFFIX.fullmatch(p.suffix) and p.is_file()]


def lack_of_signatures(folder: Path) -> str:
    """Say for the operator why clamd could load nothing, or nothing."""
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        return f"{folder} is not there; --signatures says where the signatures are"
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"
    if not any(map(_finds_something, signature_files(folder))):
        return f"{folder} has no virus signatures; type: freshclam"
    return ""


def _finds_something(path: Path) -> bool:
    if _FINDS_NOTHING.fullmatch(path.suffix):
        return False
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def fingerprint(folder: Path) -> str:
    """Give 16 hexadecimal digits that change whenever the signatures do."""
    digest = sha256()
    for path in signature_files(folder):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # freshclam has just replaced it
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _somebody_else(signatures: Path) -> pwd.struct_passwd | None:
    """Find who clamd is to run as, where the server may choose."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam("clamav")
    except KeyError:
        return None
    return user if _may_read(user, signatures.resolve()) else None


def _may_read(user: pwd.struct_passwd, folder: Path) -> bool:
    needed = [(parent, stat.S_IXOTH) for parent in folder.parents]
    needed += [(folder, stat.S_IXOTH | stat.S_IROTH)]
    needed += [(path.resolve(), stat.S_IROTH) for path in signature_files(folder)]
    return all(_has(user, path, bits) for path, bits in needed)


def _has(user: pwd.struct_passwd, path: Path, bits: int) -> bool:
    status = path.stat()
    if status.st_uid == user.pw_uid:
        bits <<= 6
    elif status.st_gid == user.pw_gid:
        bits <<= 3
    return status.st_mode & bits == bits

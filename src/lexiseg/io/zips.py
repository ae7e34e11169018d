"""A zip of a study, extracted with care: nothing outside its folder, and no more than a study holds."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
import weakref
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from lexiseg.errors import UnreadableScan
from lexiseg.io.names import printable

_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_CHUNK = 2**20
_PREFIX = "lexiseg-zip-"
_LOCK = ".lock"
_LINK_OR_FILE = (0, stat.S_IFREG)


@dataclass(frozen=True)
class ZipLimits:
    """How much a zip may hold.

    Attributes:
        files: the most members.
        bytes: the most bytes of all members together, as they are once extracted.
        ratio: how many times its size in the zip a member of more than `small` bytes may be.
        small: bytes up to which the ratio does not matter: an empty slice shrinks a thousandfold.
    """

    files: int = 50_000
    bytes: int = 2**34
    ratio: int = 200
    small: int = 2**24


def is_zip(head: bytes) -> bool:
    """Whether a file's first bytes are a zip's."""
    return head.startswith(_SIGNATURES)


class PrivateFolder:
    """A temporary folder that only this user can open.

    It goes with this object, at the end of a `with`, or at the end of the process. A killed process leaves it, for
    `remove_abandoned`.

    Attributes:
        path: of the folder.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.gettempdir(), f"{_PREFIX}{secrets.token_hex(8)}")
        # Locked before there is a folder, so that nobody finds it without its holder.
        lock = FileLock(f"{self.path}{_LOCK}", mode=0o600, thread_local=False)
        lock.acquire()
        self._finalizer = weakref.finalize(self, _remove, self.path, lock)
        self.path.mkdir(mode=0o700)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def cleanup(self) -> None:
        """Remove the folder and all in it."""
        self._finalizer()


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)


def remove_abandoned() -> None:
    """Remove the folders that killed processes of this user left: those whose locks nobody holds."""
    for held in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_LOCK}"):
        folder = held.with_name(held.name.removesuffix(_LOCK))
        lock = FileLock(held, timeout=0, mode=0o600)
        try:
            # A link, or another user's: opening the first may harm what it leads to.
            if not (_is_own(held, stat.S_IFREG) and _is_own(folder, stat.S_IFDIR)):
                continue
            lock.acquire()
        # The last is another lock of this process.
        except (Timeout, OSError, RuntimeError):
            continue
        _remove(folder, lock)


def _is_own(path: Path, kind: int) -> bool:
    status = path.lstat()
    return stat.S_IFMT(status.st_mode) == kind and (not hasattr(os, "getuid") or status.st_uid == os.getuid())


def extract_zip(path: Path, limits: ZipLimits | None = None) -> PrivateFolder:
    """Extract a zip to a folder that only this user can open, which goes when the returned object does.

    Raises:
        UnreadableScan: it is damaged or encrypted, holds links, paths that lead out, or more than the limits; the
            reason alone.
    """
    limits = limits or ZipLimits()
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            _refuse_unsafe(members, limits)
            total = sum(member.file_size for member in members)
            free = shutil.disk_usage(tempfile.gettempdir()).free
            if total > free:
                raise UnreadableScan(
                    f"extracted it needs {total / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in the temporary "
                    "folder; free some space, or set TMPDIR to another folder"
                )
            return _extracted(archive, members)
    except UnreadableScan:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UnreadableScan(f"it is a zip that cannot be read ({type(error).__name__}); pack it again") from error
    except OSError as error:
        raise UnreadableScan(f"it cannot be extracted ({error.strerror or 'the system refused'})") from error


def _refuse_unsafe(members: list[zipfile.ZipInfo], limits: ZipLimits) -> None:
    if len(members) > limits.files:
        raise UnreadableScan(f"it holds {len(members)} files, over the limit of {limits.files}; extract it yourself")
    total = 0
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if member.flag_bits & 1:
            raise UnreadableScan("it is encrypted; extract it yourself")
        if kind not in _LINK_OR_FILE:
            raise UnreadableScan("it holds a link or a device; pack plain files alone")
        if not _stays_inside(member.filename):
            raise UnreadableScan("it holds a path that leads out of its folder; pack it again")
        total += member.file_size
        if total > limits.bytes:
            raise UnreadableScan(f"extracted it holds more than {limits.bytes} bytes; extract it yourself")
        if member.file_size > limits.small and member.file_size > limits.ratio * max(1, member.compress_size):
            raise UnreadableScan(
                f"one of its files grows more than {limits.ratio} times; if that is right, extract it yourself"
            )


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0]


def _extracted(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> PrivateFolder:
    folder = PrivateFolder()
    try:
        for member in members:
            target = folder.path.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Anew each time: of two members of one name the second would go through the first.
            with (
                archive.open(member) as packed,
                os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            ):
                written = 0
                while chunk := packed.read(_CHUNK):
                    written += len(chunk)
                    if written > member.file_size:
                        raise UnreadableScan("one of its files is longer than it says; pack it again")
                    file.write(chunk)
    except FileExistsError as error:
        folder.cleanup()
        raise UnreadableScan("two of its files have one name; pack it again") from error
    except BaseException:
        folder.cleanup()
        raise
    return folder


def name_inside(archive: Path, folder: Path, file: Path) -> Path:
    """What an extracted file is called: the zip's path, and the path within it."""
    return archive / printable(str(file.relative_to(folder)))

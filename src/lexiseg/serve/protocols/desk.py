"""What the protocols share: scans that programs send, and answers that are asked of them and not kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lexiseg.errors import BadPhrase, UnreadableScan, UsageError
from lexiseg.serve.jobs import Job
from lexiseg.serve.problems import Refused
from lexiseg.serve.reading import label_of
from lexiseg.serve.routes_scans import open_files
from lexiseg.serve.scans import Entry
from lexiseg.values.geometry import Geometry
from lexiseg.values.scans import Image, Scan, Volume

if TYPE_CHECKING:
    from lexiseg.pipelines.results import TargetResult
    from lexiseg.serve.app import Server
    from lexiseg.session import Session
    from lexiseg.values.arrays import BoolArray

KEPT = "image.txt"
"""In the folder of a scan that is to stay: the name that a program gave it."""
_LONGEST = 3600.0


class Desk:
    """The scans of one protocol: its programs have no cookies, and share them by ids that nobody can guess.

    Args:
        name: of the protocol.
    """

    def __init__(self, name: str) -> None:
        self.visitor = hashlib.sha256(f"protocol:{name}".encode()).hexdigest()[:32]

    def take(self, server: Server, file: IO[bytes], name: str) -> Entry:
        """Take a scan in.

        Raises:
            UnreadableScan: it is none.
            UnwritableResult: it could not be saved.
        """
        self._make_room(server)
        made, refused = open_files(server, self.visitor, [(file, name)])
        for entry in made[1:]:
            server.scans.remove(self.visitor, entry.id)
        if len(made) == 1:
            return made[0]
        if made:
            server.scans.remove(self.visitor, made[0].id)
            raise UnreadableScan(f"{label_of(name)}: it holds {len(made)} scans; expected one")
        raise UnreadableScan(refused[0] if refused else f"{label_of(name)}: it holds no scan")

    def _make_room(self, server: Server) -> None:
        """Close what was used longest ago, where there are as many as may be: no program closes what it forgot."""
        entries = [each for each in server.scans.all(self.visitor) if not (each.folder / KEPT).exists()]
        if len(entries) >= server.settings.limits.scans // 2:
            server.scans.remove(self.visitor, min(entries, key=lambda each: each.used).id)

    def get(self, server: Server, id: str) -> Entry:
        """A scan that was taken in.

        Raises:
            Refused: there is none of this id.
        """
        return server.scans.get(self.visitor, id)

    def scan(self, server: Server, entry: Entry) -> Scan:
        """An entry's scan."""
        with entry.lock:
            return server.scans.session(entry).scan

    def picture(self, server: Server, entry: Entry) -> Image:
        """An entry's scan for a program that knows pictures alone.

        Raises:
            Refused: it is a volume.
        """
        scan = self.scan(server, entry)
        if isinstance(scan, Volume):
            raise Refused(422, f"a volume of {len(scan.values)} slices was sent; expected one slice as a picture")
        return scan

    def work(
        self, server: Server, do: Callable[[Callable[[float], None]], dict[str, Any]], text: str
    ) -> dict[str, Any]:
        """Have something done in turn with everybody's jobs, and wait for it.

        Raises:
            Refused: it failed, says why.
        """
        job = server.jobs.submit(Job(self.visitor, do, text))
        if not job.wait(_LONGEST):
            job.cancel()
            raise Refused(504, "it took longer than an hour; try a smaller scan")
        if job.state != "done":
            raise Refused(422, job.error or "it was cancelled")
        return job.result

    def find(
        self,
        server: Server,
        scan: Scan,
        phrases: Iterable[str],
        *,
        preset: str | None = None,
        threshold: float | None = None,
        tell: Callable[[float], None],
    ) -> list[TargetResult]:
        """The answers to phrases; to be called in a job.

        Raises:
            BadPhrase: a phrase is none, or longer than the server allows.
            UsageError: no such preset.
        """
        phrases, most = list(phrases), server.settings.limits.phrase
        longest = max(map(len, phrases), default=0)
        if longest > most:
            raise BadPhrase(f"a phrase has {longest} characters; expected at most {most}: name one target in few words")
        later = server.models.get(preset)
        pipeline = later.real()
        if threshold is not None and later.threshold is not None:
            changed = pipeline.preset.override(presence={"threshold": threshold})
            pipeline = type(pipeline)(changed, pipeline.encoder, pipeline.segmenter)
        return list(pipeline(scan, phrases, encodings=server.models.encodings, progress=tell).targets)

    def blank(self, server: Server, scan: Scan) -> Session:
        """A session of a scan that is not kept."""
        from lexiseg.session import Session

        return Session(server.models.get(), scan, encodings=server.models.encodings)


def label_map(masks: Mapping[str, BoolArray]) -> tuple[NDArray[np.uint8], dict[str, int], dict[str, int]]:
    """Masks as one label map, the smaller ones over the larger.

    Args:
        masks: by name, at least one, all of one shape.

    Returns:
        uint8 labels; which label is whose, from 1; and how many pixels or voxels of its mask each name lost, where it
        lost any.
    """
    from lexiseg.datasets.label_maps import laid_over
    from lexiseg.runs.notes import lost_in

    labels = laid_over(list(masks.values()))
    lost = {name: sum(each.to.values()) for name, each in lost_in(labels, masks).items()}
    return labels, {name: number for number, name in enumerate(masks, start=1)}, lost


def phrases_of(text: str) -> list[str]:
    """Phrases with semicolons or line breaks between."""
    return [part.strip() for part in text.replace("\n", ";").split(";") if part.strip()]


def in_plane(session: Session, point: tuple[float, float, float]) -> tuple[int, float, float]:
    """A voxel i, j, k (column, row, slice of the file) as a plane of acquisition and x, y in it, its centre at +0.5.

    Raises:
        UsageError: it lies outside the scan.
    """
    i, j, k = point
    shape = session.views.grid_shape
    index = (k, j, i)
    if not all(0 <= round(value) < side for value, side in zip(index, shape, strict=True)):
        raise UsageError(
            f"the point ({i:g}, {j:g}, {k:g}) lies outside the scan of {shape[2]} x {shape[1]} x {shape[0]}"
        )
    axes = session.views.axes[session.views.acquired]
    places = [shape[axis] - 1 - round(index[axis]) if flip else round(index[axis])
              for axis, flip in zip(axes.axes, axes.flips, strict=True)]  # fmt: skip
    return places[0], places[2] + 0.5, places[1] + 0.5


def voxels_of(given: Any) -> list[tuple[float, float, float]]:
    """Points i, j, k of a list, or of a list as JSON.

    Raises:
        UsageError: it is none.
    """
    try:
        points = np.array(json.loads(given) if isinstance(given, str) else given or [], np.float64).reshape(-1, 3)
    except (ValueError, TypeError) as error:
        raise UsageError("points are no list of voxels [i, j, k]") from error
    if len(points) > 1000 or not np.isfinite(points).all():
        raise UsageError(f"there are {len(points)} points; expected at most 1000, all finite")
    return [(float(i), float(j), float(k)) for i, j, k in points]


def volume_file(labels: NDArray[np.uint8], scan: Scan, end: str) -> bytes:
    """Labels on the scan's voxels as .nrrd, .nii.gz or .nii; an image is a volume of one slice, as Slicer opens it."""
    from lexiseg.io.nifti import nifti_bytes
    from lexiseg.io.write_grids import nrrd_bytes

    if isinstance(scan, Image):
        row, column = scan.spacing or (1.0, 1.0)
        shape = (1, *scan.shape)
        scan = Volume(labels[None], Geometry.of_spacing(shape, (1.0, row, column)), id=scan.id)
        labels = labels[None]
    if end == ".nrrd":
        return nrrd_bytes(labels, scan)
    content = nifti_bytes(labels, scan)
    if end == ".nii.gz":
        return content
    import gzip

    return gzip.decompress(content)

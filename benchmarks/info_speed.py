"""How long `lexiseg info` takes on a folder of many DICOM files, as a person waits for it.

    python benchmarks/info_speed.py --files 2000

Each run is a process of its own, from the first import to the last line. Of the times the least is what the machine can
do when nobody else uses it.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib import metadata
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

_RUN = "import sys; sys.argv = ['lexiseg', 'info', *sys.argv[1:]]; from lexiseg.cli.main import run; run()"


def write_study(folder: Path, files: int, *, series: int = 8, size: int = 128) -> None:
    """CT series of as many slices each, with the elements that scanners write."""
    pixels = np.random.default_rng(0).integers(0, 2000, (size, size)).astype(np.int16)
    for number in range(series):
        uid, frame = generate_uid(), generate_uid()
        (folder / str(number)).mkdir()
        for index in range(files // series):
            made = Dataset()
            made.file_meta = FileMetaDataset()
            made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            made.SeriesInstanceUID, made.FrameOfReferenceUID = uid, frame
            made.PatientName, made.PatientID, made.Modality = "Nobody", "0", "CT"
            made.StudyDate, made.SeriesDescription, made.Manufacturer = "20260101", f"series {number}", "nobody"
            made.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            made.SeriesNumber, made.InstanceNumber, made.AcquisitionNumber = number, index + 1, 1
            made.ImagePositionPatient, made.ImageOrientationPatient = [-100, -100, index], [1, 0, 0, 0, 1, 0]
            made.PixelSpacing, made.SliceThickness, made.KVP = [0.7, 0.7], 1, 120
            made.RescaleSlope, made.RescaleIntercept, made.WindowCenter, made.WindowWidth = 1, -1024, 40, 400
            made.Rows = made.Columns = size
            made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
            made.BitsAllocated = made.BitsStored = 16
            made.HighBit, made.PixelRepresentation = 15, 1
            made.PixelData = pixels.tobytes()
            made["PixelData"].VR = "OW"
            made.save_as(folder / str(number) / f"{index}.dcm", enforce_file_format=True)


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("lexiseg", "pydicom", "numpy"))
    print(f"{date.today().isoformat()}, Python {platform.python_version()}, {versions}, {arguments.files} files")
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder), arguments.files)
        for _ in range(arguments.runs):
            before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, "-c", _RUN, folder], check=True, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{time.perf_counter() - begun:.2f} s, of which the processor worked {used:.2f} s")


if __name__ == "__main__":
    main()

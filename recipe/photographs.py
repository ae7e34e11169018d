"""What photographs taught: weights that a package carries, put into the backbone of an image tower."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

from lexiseg.files import sha256_of

_NAMED = "model.image_encoder.trunk."
_TURNED = re.compile(r"/image_encoder/trunk/(.*)Transpose_output_0")
"""How ONNX's exporter calls SAM 2's arrays: by name, or by the operation that turned them over."""


def load_pretrained(
    backbone: nn.Module,
    *,
    package: str,
    install: str,
    file: str,
    sha256: str,
    prefix: str = "",
    pixels: tuple[float, float] | None = None,
) -> None:
    """Put the weights that an installed package carries into the backbone of an image tower.

    Where the file names its layers otherwise than timm does, it lists them in the same order; what follows
    the last stage (a classifier, a neck) is left out.

    Args:
        backbone: a timm network's stages.
        package: as it is imported, or the folder of one that is none of Python's (with a slash, from the
            working directory); none of its code is run.
        install: the command that puts it there.
        file: a state dict inside it, as `torch.save` writes it, or SAM 2's encoder in ONNX Runtime's format
            (.ort).
        sha256: of that file.
        prefix: how the names of the backbone's own arrays begin; "" takes all.
        pixels: the (mean, std) of the tower's pixels, for weights that learnt from ImageNet's; None leaves
            the first layer as it is, which does where a batch norm follows.

    Raises:
        ModuleNotFoundError: the package, or onnxruntime for an .ort file, is not installed.
        ValueError: another file than expected, or an array of another shape.
    """
    path = _folder_of(package, install) / file
    if (found := sha256_of(path)) != sha256:
        raise ValueError(f"{package}: {file} has sha256 {found}, expected {sha256}")
    if path.suffix == ".ort":
        arrays: Mapping[str, Tensor] = sam2_trunk(onnxruntime_arrays(path))
    else:
        arrays = torch.load(path, weights_only=True, map_location="cpu")
    own = backbone.state_dict()
    named = {name: name.removeprefix("model.") for name in own}  # timm wraps some networks
    if arrays.keys() >= set(named.values()):
        chosen = {name: arrays[theirs] for name, theirs in named.items()}
    else:
        chosen = dict(zip(own, (v for k, v in arrays.items() if k.startswith(prefix)), strict=False))
    for name, array in chosen.items():
        if array.shape != own[name].shape:
            raise ValueError(f"{package}: {name} is {tuple(array.shape)}, expected {tuple(own[name].shape)}")
    backbone.load_state_dict(chosen)
    if pixels is not None:
        see_through(next(m for m in backbone.modules() if isinstance(m, nn.Conv2d)), *pixels)


def _folder_of(package: str, install: str) -> Path:
    if "/" in package:
        folder = Path(package) if Path(package).is_dir() else None
    else:
        spec = importlib.util.find_spec(package)
        places = spec.submodule_search_locations if spec else None
        folder = Path(places[0]) if places else None
    if folder is None:
        raise ModuleNotFoundError(
            f"the recipe begins from weights that {package} carries, which is not installed: {install}"
        )
    return folder


@torch.no_grad()
def see_through(first: nn.Conv2d, mean: float, std: float) -> None:
    """Make a first layer that knows ImageNet's normalisation see pixels normalised by one mean and std.

    Its sums stay what they were, except at the border, where its padding means another grey level now.

    Args:
        first: of three channels, with a bias; changed in place.
        mean: of the pixels that it will see, as a share of white.
        std: likewise.

    Raises:
        ValueError: it has no bias.
    """
    if first.bias is None:
        raise ValueError("the first layer has no bias to put the difference of the means into")
    theirs, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    first.bias += (first.weight * (mean - theirs) / spread).sum((1, 2, 3))
    first.weight *= std / spread


def onnxruntime_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The float32 arrays that a model in ONNX Runtime's format carries, by name.

    Raises:
        ModuleNotFoundError: onnxruntime, whose schema of the format is used, is not installed.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModuleNotFoundError(f"{path.name} is read with onnxruntime: pip install onnxruntime")
    importlib.import_module("onnxruntime.tools.ort_format_model")  # puts the schema on the path
    schema = "ort_flatbuffers_py.fbs"
    session = importlib.import_module(f"{schema}.InferenceSession").InferenceSession
    single = importlib.import_module(f"{schema}.TensorDataType").TensorDataType.FLOAT
    graph = session.GetRootAs(path.read_bytes(), 0).Model().Graph()
    arrays = {}
    for tensor in (graph.Initializers(i) for i in range(graph.InitializersLength())):
        if tensor.DataType() == single:
            shape = [tensor.Dims(i) for i in range(tensor.DimsLength())]
            arrays[tensor.Name().decode()] = tensor.RawDataAsNumpy().view("<f4").reshape(shape).copy()
    return arrays


def sam2_trunk(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """SAM 2's image encoder, without its neck, from what ONNX's exporter made of it, in timm's names.

    The exporter names biases and norms as SAM 2 does, the matrices by the operation that turned them over,
    and leaves of the positions their sum at the export's size, which is taken apart again.

    Args:
        arrays: by the exporter's names; those of other parts are left out.

    Raises:
        ValueError: the positions are not what SAM 2 computes (`taken_apart`).
    """
    state: dict[str, Tensor] = {}
    for name, array in arrays.items():
        values = torch.tensor(array)
        if turned := _TURNED.fullmatch(name):
            if place := turned[1].replace("/", "."):
                state[f"{place}weight"] = values.T.contiguous()
            else:
                state["pos_embed"], state["pos_embed_window"] = taken_apart(values)
        elif name.startswith(_NAMED):
            state[name.removeprefix(_NAMED)] = values
    return {n.replace("layers.0", "fc1").replace("layers.1", "fc2"): v for n, v in state.items()}


def taken_apart(positions: Tensor, grid: int = 7, window: int = 8) -> tuple[Tensor, Tensor]:
    r"""Both tables whose sum SAM 2 adds to its patches, from that sum.

    It is :math:`P_{yx} = B(a)_{yx} + b_{y \bmod w,\, x \bmod w}`, B the bicubic interpolation to the size of
    the sum (Hiera's absolute windows: Bolya et al., arXiv 2311.05613): linear in both tables, which are
    found by least squares.  A constant may be in either; it is left where the shortest solution has it.

    Args:
        positions: float32 (1, C, H, W), H and W multiples of the window.
        grid: rows and columns of a.
        window: w.

    Returns:
        a (1, C, grid, grid) and b (1, C, w, w), float32.

    Raises:
        ValueError: no two tables have that sum, to a ten-thousandth of its largest number.
    """
    height, width = positions.shape[-2:]
    each = torch.eye(grid * grid).reshape(-1, 1, grid, grid)
    wide = functional.interpolate(each, size=(height, width), mode="bicubic").flatten(1)
    tile = torch.eye(window * window).reshape(-1, 1, window, window)
    tiled = tile.repeat(1, 1, height // window, width // window).flatten(1)
    basis = torch.cat([wide, tiled]).double()
    wanted = positions[0].flatten(1).double()
    found = torch.linalg.lstsq(basis @ basis.T, basis @ wanted.T, driver="gelsd").solution
    off = (found.T @ basis - wanted).abs().max()
    if off > 1e-4 * wanted.abs().max():
        raise ValueError(f"positions {tuple(positions.shape)} are no sum of a grid and a window: off by {off:.2g}")
    a, b = found.float().T.split([grid * grid, window * window], 1)
    return a.reshape(1, -1, grid, grid), b.reshape(1, -1, window, window)

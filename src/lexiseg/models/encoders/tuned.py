"""The bundled encoder with some of its layers tuned: kept as what differs from the weights that ship.

`lexiseg distill` writes such folders. Their config.json says ``"network": "towers"`` and which bundled weights they
were begun from; model.safetensors holds the tuned tensors by their names in the open_clip model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lexiseg.errors import BrokenWeights
from lexiseg.models.weights.records import bundled_folder, read_record

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from lexiseg.models.encoders.open_clip import OpenClipEncoder
    from lexiseg.models.families import ModelFiles

NAME = "a student of the bundled encoder (config.json of the format lexiseg-student, network towers)"
FORMAT, NETWORK = "lexiseg-student", "towers"


def recognises(files: ModelFiles) -> bool:
    """A student's folder whose network is the bundled encoder's."""
    return is_tuned(files.config)


def is_tuned(config: Mapping[str, Any]) -> bool:
    """Whether a folder's config.json is that of a tuned encoder."""
    return config.get("format") == FORMAT and config.get("network") == NETWORK


def load(files: ModelFiles, *, device: torch.device, precision: str) -> OpenClipEncoder:
    """The bundled encoder with the folder's tensors in it.

    Raises:
        BrokenWeights: it was begun from other bundled weights than this installation has, the file is not that of
            the record, or a tensor does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from lexiseg.models.encoders.open_clip import OpenClipEncoder
    from lexiseg.models.encoders.open_clip_folder import build_model, build_tokenizer
    from lexiseg.models.encoders.open_clip_known import read_known
    from lexiseg.models.families import ModelFiles as Files

    base = Files(ref="bundled", path=bundled_folder("encoder"))
    wanted = dict(files.config.get("start") or {}).get("sha256", "")
    if wanted != base.info.sha256:
        raise BrokenWeights(
            f"{files.place}: it was begun from bundled weights {str(wanted)[:12] or '?'}, this lexiseg ships "
            f"{base.info.sha256[:12]}; train it again, or use the lexiseg that made it"
        )
    record = read_record(files.place)
    info = files.info
    if record is not None and record.files.get(info.path.name) != info.sha256:
        raise BrokenWeights(f"{info.path}: its sha256 is not the recorded one; copy or train the weights again")
    try:
        tensors = load_file(info.path)
    except (OSError, SafetensorError) as error:
        raise BrokenWeights(
            f"{info.path}: the weights cannot be read ({type(error).__name__}); copy or train them again"
        ) from error
    model = build_model(base)
    put_tensors(model, tensors, str(info.path))
    return OpenClipEncoder(
        model,
        build_tokenizer(base),
        name=files.ref,
        device=device,
        precision=precision,
        weights=info,
        known=read_known(base.place),
        begun_from="bundled",
    )


def put_tensors(model: nn.Module, tensors: Mapping[str, Tensor], label: str) -> None:
    """Put tensors in the place of a model's own.

    Args:
        model: of open_clip; changed in place.
        tensors: by their names in the open_clip model.
        label: whose they are, for messages.

    Raises:
        BrokenWeights: a name that the model does not have, another shape, or numbers that are not finite.
    """
    import torch

    own: dict[str, Tensor] = model.state_dict()
    for name, value in tensors.items():
        if name not in own or own[name].shape != value.shape:
            raise BrokenWeights(f"{label}: {name} does not fit the bundled encoder; train it again")
        if not bool(torch.isfinite(value).all()):
            raise BrokenWeights(f"{label}: {name} is not finite; train it again")
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)

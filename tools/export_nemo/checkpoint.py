# SPDX-License-Identifier: MIT OR Apache-2.0
"""Finds a checkpoint and reads its metadata without loading it, so that unsupported ones are rejected in a second."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

from .errors import ExportError

CONFIG = "model_config.yaml"
WEIGHTS = (".ckpt", ".pt", ".distcp", ".safetensors")

# Descriptions of files that are not checkpoints, by their first bytes.
SIGNATURES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to: run git lfs pull"),
    (b"<!DOCTYPE", "a web page: download the file itself"),
    (b"<html", "a web page: download the file itself"),
    (
        b"PK\x03\x04",
        "a PyTorch checkpoint (.pt, .ckpt): save the model with NeMo's save_to('model.nemo') and use that file",
    ),
    (b"\x08", "an ONNX graph that is already exported: use the .nemo checkpoint it was made from"),
)


@dataclass
class Checkpoint:
    """A local checkpoint."""

    path: Path
    """A .nemo file, or a directory with its contents."""
    source: str
    """The source named in nemostt.json: the pretrained name or the file name."""
    config: dict
    weight_bytes: int
    tokenizer: bytes | None
    """The SentencePiece model, if there is one."""
    licence: str | None


def find(name: str, capture) -> Checkpoint:
    """Opens the file `name`, or downloads the pretrained model of that name."""
    path = locate(name)
    if path is not None:
        return read(path, path.name, None)
    path = download(name, capture)
    return read(path, name, published_licence(name))


def locate(name: str) -> Path | None:
    """The local path that `name` stands for, or None if it is to be downloaded."""
    path = Path(name).expanduser()
    if path.is_dir() and not (path / CONFIG).exists():
        inside = sorted(path.glob("*.nemo"))
        raise ExportError(
            f"{path} is a directory without {CONFIG}: use the checkpoint itself"
            + (f", such as {inside[0]}" if inside else "")
        )
    if path.exists():
        return path
    if name.endswith(".nemo") or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise ExportError(
            f"{name} does not exist: use the path of a .nemo file or a pretrained name such as nvidia/NAME"
        )
    return None


def read(path: Path, source: str, licence: str | None) -> Checkpoint:
    """Reads configuration, tokenizer and size of the checkpoint at `path`."""
    return with_members(path, lambda sizes, open_member: assemble(path, source, licence, sizes, open_member))


def check(path: Path) -> None:
    """Rejects incomplete checkpoints by the names and sizes of their members. Needs the standard library only."""
    with_members(path, lambda sizes, _: weights_in(path, sizes))


def with_members(path: Path, use):
    """Calls `use` with the sizes of the members of the checkpoint at `path` and a function that reads a member."""
    if path.is_dir():
        files = {file.name: file.stat().st_size for file in path.iterdir() if file.is_file()}
        return use(files, lambda name: (path / name).read_bytes())
    if path.stat().st_size == 0:
        raise ExportError(f"{path} is empty: download it again")
    try:
        with tarfile.open(path, "r:*") as archive:
            members = {Path(member.name).name: member for member in archive if member.isfile()}
            sizes = {name: member.size for name, member in members.items()}
            return use(sizes, lambda name: archive.extractfile(members[name]).read())
    except (tarfile.TarError, EOFError, OSError) as error:
        # tarfile lists every compression it tried, one per line.
        reason = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise ExportError(f"{path} is not a .nemo checkpoint ({identify(path) or reason})") from error


def weights_in(path: Path, sizes: dict[str, int]) -> int:
    """Bytes of weights in the checkpoint at `path`."""
    if CONFIG not in sizes:
        raise ExportError(
            f"{path} has no {CONFIG}, so it is not a .nemo checkpoint or an incomplete download: download it again"
        )
    weights = sum(size for name, size in sizes.items() if name.endswith(WEIGHTS))
    if weights == 0:
        raise ExportError(f"{path} has no weights, so it is an incomplete download: download it again")
    return weights


def assemble(path, source, licence, sizes, open_member) -> Checkpoint:
    import yaml

    weights = weights_in(path, sizes)
    config = yaml.safe_load(open_member(CONFIG))
    # NeMo writes "nemo:NAME" for a file NAME in the archive.
    name = str((config.get("tokenizer") or {}).get("model_path") or "").removeprefix("nemo:")
    tokenizer = open_member(name) if name in sizes else None
    return Checkpoint(path, source, config, weights, tokenizer, licence)


def identify(path: Path) -> str | None:
    """What kind of file it is instead, if its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(64)
    found = next((what for magic, what in SIGNATURES if start.startswith(magic)), None)
    if found is None and start[8:9] == b"{":
        found = "a .safetensors file, which has no configuration: use NeMo's .nemo file"
    return found


def download(name: str, capture) -> Path:
    """Lets NeMo download a pretrained model, which it caches."""
    with capture("downloading"):
        from nemo.collections.asr.models import ASRModel

        known = {info.pretrained_model_name for info in ASRModel.list_available_models() or []}
        if "/" not in name and name not in known:
            raise ExportError(
                f"{name} is neither a local file nor a pretrained name that NeMo knows: "
                "Hugging Face names start with their owner, such as nvidia/NAME"
            )
        try:
            return Path(ASRModel.from_pretrained(name, return_model_file=True))
        except Exception as error:  # requests, huggingface_hub, wget and urllib raise different exceptions
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if "Max retries" in reason or "onnection" in reason:
                reason = "no connection"
            raise ExportError(
                f"{name} could not be downloaded ({reason:.200}): check the network (HTTPS_PROXY, HF_ENDPOINT, "
                "HF_TOKEN), or download the .nemo file elsewhere and use its path"
            ) from error


def published_licence(name: str) -> str | None:
    """The license on the model card, if the hub can be reached."""
    if "/" not in name:
        return None
    try:
        from huggingface_hub import model_info

        card = model_info(name).card_data
    except Exception:  # the license is optional
        return None
    return card and (card.get("license_name") or card.get("license"))

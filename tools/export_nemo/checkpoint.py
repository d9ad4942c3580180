# SPDX-License-Identifier: MIT OR Apache-2.0
"""Finds a checkpoint and reads what it says about itself, without loading it: so refusals take a second."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

from .errors import Refusal

CONFIG = "model_config.yaml"
WEIGHTS = (".ckpt", ".pt", ".distcp", ".safetensors")

# What a file is that is no checkpoint, by its first bytes.
STRANGERS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it points to: fetch that with git lfs pull"),
    (b"<!DOCTYPE", "a web page: download the file itself, not the page that shows it"),
    (b"<html", "a web page: download the file itself, not the page that shows it"),
    (
        b"PK\x03\x04",
        "a PyTorch checkpoint (.pt, .ckpt): save the model with NeMo's save_to('model.nemo') and give that",
    ),
    (b"\x08", "an ONNX graph, exported already: give the .nemo checkpoint it was made from"),
)


@dataclass
class Checkpoint:
    """A checkpoint on this disk."""

    path: Path
    """A .nemo file, or a directory with its contents."""
    source: str
    """What nemostt.json shall say it came from: the pretrained name, or the name of the file."""
    config: dict
    weight_bytes: int
    tokenizer: bytes | None
    """The SentencePiece model, if there is one."""
    licence: str | None


def find(name: str, quiet) -> Checkpoint:
    """Opens the file `name`, or downloads the pretrained model of that name."""
    path = locate(name)
    if path is not None:
        return read(path, path.name, None)
    path = download(name, quiet)
    return read(path, name, published_licence(name))


def locate(name: str) -> Path | None:
    """The path that `name` is, or None for a name to download."""
    path = Path(name).expanduser()
    if path.is_dir() and not (path / CONFIG).exists():
        inside = sorted(path.glob("*.nemo"))
        raise Refusal(
            f"{path} is a directory without {CONFIG}: give the checkpoint itself"
            + (f", such as {inside[0]}" if inside else "")
        )
    if path.exists():
        return path
    if name.endswith(".nemo") or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise Refusal(f"{name} does not exist: give the path of a .nemo file or a pretrained name such as nvidia/NAME")
    return None


def read(path: Path, source: str, licence: str | None) -> Checkpoint:
    """Reads configuration, tokenizer and size of the checkpoint at `path`."""
    return with_members(path, lambda sizes, open_member: assemble(path, source, licence, sizes, open_member))


def check(path: Path) -> None:
    """Refuses what is no complete checkpoint, by the names and sizes of its members: needs no other module."""
    with_members(path, lambda sizes, _: weights_in(path, sizes))


def with_members(path: Path, use):
    """Calls `use` with the sizes of the members of the checkpoint at `path`, and a function that reads one."""
    if path.is_dir():
        files = {file.name: file.stat().st_size for file in path.iterdir() if file.is_file()}
        return use(files, lambda name: (path / name).read_bytes())
    if path.stat().st_size == 0:
        raise Refusal(f"{path} is empty: download it again")
    try:
        with tarfile.open(path, "r:*") as archive:
            members = {Path(member.name).name: member for member in archive if member.isfile()}
            sizes = {name: member.size for name, member in members.items()}
            return use(sizes, lambda name: archive.extractfile(members[name]).read())
    except (tarfile.TarError, EOFError, OSError) as error:
        # tarfile lists every compression it tried, one per line.
        reason = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise Refusal(f"{path} is not a .nemo checkpoint ({what_is(path) or reason})") from error


def weights_in(path: Path, sizes: dict[str, int]) -> int:
    """Bytes of weights in the checkpoint at `path`."""
    if CONFIG not in sizes:
        raise Refusal(
            f"{path} has no {CONFIG}, so it is not a .nemo checkpoint or an unfinished download: download it again"
        )
    weights = sum(size for name, size in sizes.items() if name.endswith(WEIGHTS))
    if weights == 0:
        raise Refusal(f"{path} has no weights, so it is an unfinished download: download it again")
    return weights


def assemble(path, source, licence, sizes, open_member) -> Checkpoint:
    import yaml

    weights = weights_in(path, sizes)
    config = yaml.safe_load(open_member(CONFIG))
    # NeMo writes "nemo:NAME" where it packed the file NAME.
    name = str((config.get("tokenizer") or {}).get("model_path") or "").removeprefix("nemo:")
    tokenizer = open_member(name) if name in sizes else None
    return Checkpoint(path, source, config, weights, tokenizer, licence)


def what_is(path: Path) -> str | None:
    """What a file is instead, where its first bytes tell."""
    with path.open("rb") as file:
        start = file.read(64)
    found = next((what for magic, what in STRANGERS if start.startswith(magic)), None)
    if found is None and start[8:9] == b"{":
        found = "a .safetensors file, which has no configuration: give NeMo's own .nemo file"
    return found


def download(name: str, quiet) -> Path:
    """Lets NeMo fetch a pretrained model; it keeps what it fetched."""
    with quiet("downloading"):
        from nemo.collections.asr.models import ASRModel

        known = {info.pretrained_model_name for info in ASRModel.list_available_models() or []}
        if "/" not in name and name not in known:
            raise Refusal(
                f"{name} is neither a file here nor a pretrained name that NeMo knows: "
                "names of Hugging Face have their owner in front, such as nvidia/NAME"
            )
        try:
            return Path(ASRModel.from_pretrained(name, return_model_file=True))
        except Exception as error:  # requests, huggingface_hub, wget and urllib each have their own
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            if "Max retries" in reason or "onnection" in reason:
                reason = "no connection"
            raise Refusal(
                f"{name} could not be downloaded ({reason:.200}): check the network (HTTPS_PROXY, HF_ENDPOINT, "
                "HF_TOKEN), or download the .nemo file elsewhere and give its path"
            ) from error


def published_licence(name: str) -> str | None:
    """The licence on a model's card, where the hub can be asked."""
    if "/" not in name:
        return None
    try:
        from huggingface_hub import model_info

        card = model_info(name).card_data
    except Exception:  # a licence is good to know, but no reason to stop
        return None
    return card and (card.get("license_name") or card.get("license"))

"""The images of the project: what images.json says of them, and what is generated from it.

`images.py config` writes conf/generated/containers.config, `images.py lock` the lock files of Python packages.
"""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "containers"
BUILT = ROOT / "build" / "containers"


# Processes whose settings do not lie in a section of their own name; workflows/images.nf knows them too.
SECTIONS = {
    ("CALIBRATE", "device"): ["segment"],
    ("CALIBRATE", "engine"): ["segment", "cluster"],
    ("FINETUNE", "device"): ["train"],
    ("FINETUNE", "engine"): ["segment", "cluster"],
}


CONTAINER = """{ params.image_registry ? "${params.image_registry}/${task.ext.image}${task.ext.digests[task.ext.image] ? '@' + task.ext.digests[task.ext.image] : ':' + task.ext.version}" :
        params.image_folder ? "${params.image_folder}/${task.ext.image}-${task.ext.version}.sif" :
        "localhost/template-learning/${task.ext.image}:${task.ext.version}" }"""


class ImageError(Exception):
    """What is wrong with an image or its recipe, in one line."""


@dataclass(frozen=True)
class Image:
    """An entry of images.json; ``processes`` run in it where their stage's setting is as in ``when`` (none: always).

    Its packages are put on those of ``parent``, another image or ``base``.
    """

    name: str
    version: str
    title: str
    holds: str
    licences: str
    processes: tuple[str, ...]
    when: str | None
    ci: bool
    parent: str
    extras: tuple[str, ...]
    oci_digest: str | None
    sif_sha256: str | None

    @property
    def recipe(self) -> Path:
        """The Containerfile of its packages; containers/Containerfile puts this package on them."""
        return FOLDER / self.name / "Containerfile"

    @property
    def stem(self) -> str:
        """Its files' name up to the ending."""
        return f"{self.name}-{self.version}"


def read_images(names: str = "") -> list[Image]:
    """The images of images.json, or those named (separated by spaces); raises ImageError for an unknown name."""
    entries: dict[str, Any] = json.loads((FOLDER / "images.json").read_text())
    unknown = [name for name in names.split() if name not in entries]
    if unknown:
        raise ImageError(f"{unknown[0]}: no such image; allowed: {' '.join(entries)}")
    return [_image(name, entries[name]) for name in names.split() or entries]


def _image(name: str, entry: dict[str, Any]) -> Image:
    lists = {field: tuple(entry[field]) for field in ("processes", "extras")}
    return Image(**{**entry, **lists, "name": name})


def containers_config() -> str:
    """conf/generated/containers.config: the image of each process, and where images lie."""
    images = read_images()
    digests = ", ".join(f"'{image.name}': '{image.oci_digest}'" for image in images if image.oci_digest) or ":"
    lines = [
        "// Generated from containers/images.json by `make docs`; edit there.",
        "// Closures, since a profile's parameters are only joined with the defaults after the configuration is read.",
        "",
        "process {",
        "    // ext.image: an image's name, by the stage's settings.  ext.digests: those of a release, in a registry.",
        f"    ext = [image: 'native', version: '{images[0].version}', digests: [{digests}]]",
        "    // In params.image_registry, else a SIF below params.image_folder, else one that docker or podman holds.",
        f"    container = {CONTAINER}",
    ]
    for process in dict.fromkeys(process for image in images for process in image.processes):
        choice = "'native'"
        for image in images:
            if process in image.processes:
                choice = f"{_condition(image, process)}'{image.name}'" + (f" : {choice}" if image.when else "")
        closure = f"{{ {choice} }}" if "params" in choice else choice
        lines += [f"    withName: '{process}' {{", f"        ext = [image: {closure}]", "    }"]
    return "\n".join([*lines, "}", ""])


def _condition(image: Image, process: str) -> str:
    if image.when is None:
        return ""
    setting, value = image.when.split("=")
    sections = SECTIONS.get((process, setting), [process.lower()])
    return " || ".join(f"params.{section}.{setting} == '{value}'" for section in sections) + " ? "


def locked(image: Image) -> Path:
    """The lock file of an image's Python packages."""
    return FOLDER / image.name / "requirements.lock"


def write_locks() -> None:
    """Lock what each image installs (its extras, and requirements.in), at the versions of python/requirements.lock."""
    for image in read_images():
        more = FOLDER / image.name / "requirements.in"
        if image.extras or more.is_file():
            extras = [word for extra in image.extras for word in ("--extra", extra)]
            command: list[str | Path] = [
                ROOT / ".tools/uv/bin/uv",
                "pip",
                "compile",
                "-q",
                "--universal",
                "--python-version",
                "3.11",
            ]
            command += ["--generate-hashes", "--no-emit-index-url", "--no-header", "-o", locked(image)]
            if extras:
                command += ["-c", "python/requirements.lock", *extras, "python/pyproject.toml"]
            if more.is_file():
                command.append(more.relative_to(ROOT))
            subprocess.run(command, cwd=ROOT, check=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copied(recipe: Path, root: Path = ROOT) -> list[Path]:
    """Every file that a Containerfile copies from the repository, without what Python and its linters leave behind, sorted."""
    files: set[Path] = set()
    for line in re.sub(r"\\\n", " ", recipe.read_text()).splitlines():
        words = line.split()
        if not words or words[0] not in ("COPY", "ADD") or any(word.startswith("--from") for word in words):
            continue
        for source in [word for word in words[1:] if not word.startswith("--")][:-1]:
            path = root / source
            if not path.exists():
                raise ImageError(f"{recipe.relative_to(root)}: {source} is copied but does not exist")
            found = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
            files.update(one for one in found if not any(map(_left_behind, one.relative_to(root).parts)))
    return sorted(files)


def _left_behind(name: str) -> bool:
    return name == "__pycache__" or name.endswith(".egg-info") or (name.startswith(".") and name.endswith("_cache"))


def main() -> int:
    """Command line: config or lock."""
    try:
        if sys.argv[1:] == ["config"]:
            (ROOT / "conf/generated/containers.config").write_text(containers_config())
        elif sys.argv[1:] == ["lock"]:
            write_locks()
        else:
            raise ImageError("usage: images.py config|lock")
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""CRATE: what a run published in, its index and its RO-Crate out."""

from collections.abc import Iterable
from pathlib import Path

from template_learning.common.files import existing
from template_learning.common.provenance import write_json
from template_learning.pipeline.outputs import index_of
from template_learning.pipeline.ro_crate import CRATE, crate_of, read_object, stage_sidecar


def write_index(listing: Path | Iterable[str], output: Path) -> None:
    """Write index.json from the published paths: a list of them, or a text file with one a line.

    Raises BadInput for a missing or empty text file and for a path that leads out of the output folder.
    """
    paths = existing(listing).read_text(encoding="utf-8").splitlines() if isinstance(listing, Path) else listing
    write_json(output, index_of(paths))


def write_crate(listing: Path, data: Path, about: Path, output: Path) -> None:
    """Write the crate of a run.

    ``listing`` is a text file with the published paths, one a line; ``data`` a folder with ``check/settings.json``,
    ``check/inputs.json`` and the sidecars of the stages, as CRATE collects them; ``about`` JSON of what only Nextflow knows:
    ``nextflow`` (version), ``revision`` (git), ``image_sha256`` (image -> SHA-256), each null or empty where unknown, and
    ``left_out`` (id, split and stage of simulated tomograms that failed).

    Raises BadInput for a missing file.
    """
    paths = [line for line in existing(listing).read_text(encoding="utf-8").splitlines() if line.strip() != CRATE]
    settings = read_object(data / "check/settings.json")
    inputs = read_object(data / "check/inputs.json")
    sidecars = [metadata for path in sorted(data.rglob("*.json")) if (metadata := stage_sidecar(path))]
    write_json(output, crate_of(paths, settings, inputs, sidecars, read_object(about)))

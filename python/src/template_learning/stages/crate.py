"""CRATE: what a run published in, its index and its RO-Crate out."""

from pathlib import Path

from template_learning.common.provenance import write_json
from template_learning.pipeline.outputs import index_of, published_files
from template_learning.pipeline.ro_crate import CRATE, crate_of, read_object, stage_sidecar

INDEX = "index.json"


def write_crate(data: Path, about: Path, output: Path, earlier: Path | None = None) -> None:
    """Write ``index.json`` and ``ro-crate-metadata.json`` of a run.

    Parameters
    ----------
    data : Path
        Folder with all files of the run as they are published, links allowed; ``check/settings.json`` and
        ``check/inputs.json`` must be among them.
    about : Path
        JSON of what only Nextflow knows: ``nextflow`` (version), ``revision`` (git), ``image_sha256`` (image -> SHA-256), each
        null or empty where unknown, and ``left_out`` (id, split and stage of simulated tomograms that failed).
    output : Path
        Folder to write to.
    earlier : Path, optional
        Folder with sidecars of an earlier run that this one goes on from.

    Raises
    ------
    BadInput
        A file is missing or broken.
    """
    files = {name: file for name, file in published_files(data).items() if name not in (INDEX, CRATE)}
    settings = read_object(data / "check/settings.json")
    inputs = read_object(data / "check/inputs.json")
    index = index_of({**files, INDEX: None, CRATE: None})
    write_json(output / INDEX, index)
    listed = [entry for entry in index["files"] if entry["path"] not in (INDEX, CRATE)]
    listed += index_of({INDEX: output / INDEX})["files"]
    known = [*files.values(), *(published_files(earlier).values() if earlier is not None and earlier.is_dir() else ())]
    sidecars = [metadata for path in known if path.suffix == ".json" and (metadata := stage_sidecar(path))]
    write_json(output / CRATE, crate_of(listed, settings, inputs, sidecars, read_object(about)))

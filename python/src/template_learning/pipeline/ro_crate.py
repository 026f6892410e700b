"""ro-crate-metadata.json: what a run was made from and with, as a Workflow Run RO-Crate.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profile Workflow Run Crate 0.5 (https://w3id.org/ro/wfrun/workflow/0.5):
one CreateAction with the inputs and their SHA-256, every parameter and seed, the software's versions, the images and the files
that came out.  Times are UTC.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from template_learning import __version__
from template_learning.common.files import read_json
from template_learning.settings import flat

CRATE = "ro-crate-metadata.json"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
}
IMAGE_TYPES = "https://w3id.org/ro/terms/workflow-run#"

Entity = dict[str, Any]


def crate_of(
    published: Iterable[Entity], settings: Entity, inputs: Entity, sidecars: Iterable[Entity], about: Entity
) -> Entity:
    """The crate's content: ``published`` are entries of the index, the other arguments ``write_crate``'s files, read."""
    sidecars = list(sidecars)
    outputs = [_output(entry) for entry in sorted(published, key=lambda entry: str(entry["path"]))]
    taken = [_input(number, entry) for number, entry in enumerate(inputs.get("files", []), start=1)]
    values = [*_parameters(settings), *_seeds(sidecars)]
    images = _images(sidecars, about.get("image_sha256") or {})
    software = _software(sidecars)
    ended = _now()
    workflow: Entity = {
        "@id": "#workflow",
        "@type": ["SoftwareSourceCode", "ComputationalWorkflow"],
        "name": "Template Learning",
        "version": __version__,
        "license": {"@id": "https://spdx.org/licenses/Apache-2.0"},
        "programmingLanguage": {"@id": "#nextflow"},
        "softwareRequirements": _references(software),
    }
    if about.get("revision"):
        workflow["identifier"] = f"git:{about['revision']}"
    action: Entity = {
        "@id": "#run",
        "@type": "CreateAction",
        "name": f"{settings.get('start_at')} to {settings.get('stop_after')}",
        "instrument": {"@id": "#workflow"},
        "startTime": inputs.get("checked_at", ended),
        "endTime": ended,
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
        "object": _references([*taken, *values]),
        "result": _references(outputs),
        "containerImage": _references(images),
    }
    if about.get("left_out"):
        failed = ", ".join(f"{one['id']} ({one['split']}, {one['stage']})" for one in about["left_out"])
        action["description"] = f"Without simulated tomograms that failed: {failed}"
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": "Results of Template Learning",
        "description": "Simulated tomograms, a trained network and picks, and how they were made",
        "datePublished": ended,
        "conformsTo": [{"@id": profile} for profile in PROFILES],
        "hasPart": _references([*outputs, *taken]),
        "mainEntity": {"@id": "#workflow"},
        "mentions": [{"@id": "#run"}],
    }
    descriptor = {
        "@id": CRATE,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    language = {"@id": "#nextflow", "@type": "ComputerLanguage", "name": "Nextflow", "version": about.get("nextflow")}
    named = [{"@id": profile, "@type": "CreativeWork", "name": name, "version": "0.5"} for profile, name in PROFILES.items()]
    return {
        "@context": ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"],
        "@graph": [
            descriptor,
            root,
            *named,
            workflow,
            language,
            action,
            *software,
            *images,
            *taken,
            *values,
            *outputs,
        ],
    }


def read_object(path: Path) -> Entity:
    """The content of a JSON file; raises BadInput where it is missing or not JSON."""
    return read_json(path)


def stage_sidecar(path: Path) -> Entity | None:
    """The content of a stage's sidecar, None for any other JSON."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size else None
    return content if isinstance(content, dict) and {"stage", "id", "versions"} <= content.keys() else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _references(entities: Iterable[Entity]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _output(entry: Entity) -> Entity:
    return {
        "@id": entry["path"],
        "@type": "File",
        "name": entry["what"],
        "contentSize": str(entry["bytes"]),
        "sha256": entry["sha256"],
    }


def _input(number: int, entry: Entity) -> Entity:
    """A file that the run read: it lies outside the crate, so that its hash says which it was."""
    return {
        "@id": f"#input-{number}",
        "@type": "File",
        "name": Path(entry["path"]).name,
        "description": f"{entry['role']} {entry['id']}",
        "alternateName": entry["path"],
        "contentSize": str(entry["bytes"]),
        "sha256": entry["sha256"],
    }


def _parameters(settings: Entity) -> list[Entity]:
    return [
        {"@id": f"#parameter-{name}", "@type": "PropertyValue", "name": name, "value": json.dumps(value)}
        for name, value in flat(settings).items()
        if value is not None
    ]


def _seeds(sidecars: Iterable[Entity]) -> list[Entity]:
    """Root seed of every item; what its generator starts from follows from that, the stage and the id."""
    found = {
        (metadata["stage"].lower(), str(metadata["id"])): metadata["seed"]
        for metadata in sidecars
        if metadata.get("seed") is not None
    }
    return [
        {"@id": f"#seed-{stage}-{item}", "@type": "PropertyValue", "name": f"seed of {stage} {item}", "value": json.dumps(seed)}
        for (stage, item), seed in sorted(found.items())
    ]


def _software(sidecars: Iterable[Entity]) -> list[Entity]:
    found = {entry for metadata in sidecars for entry in [*metadata["versions"].items(), *_programs(metadata)]}
    return [
        {"@id": f"#software-{name}-{version}", "@type": "SoftwareApplication", "name": name, "softwareVersion": version}
        for name, version in sorted(found)
    ]


def _programs(metadata: Entity) -> list[tuple[str, str]]:
    """The programs that a stage's engine ran, and their versions."""
    named = [(metadata.get("program"), metadata.get("program_version")), ("MULTEM", metadata.get("multem_version"))]
    return [(name, version) for name, version in named if name and version]


def _images(sidecars: Iterable[Entity], sha256: Entity) -> list[Entity]:
    stages: dict[str, set[str]] = {}
    for metadata in sidecars:
        if metadata.get("image"):
            stages.setdefault(metadata["image"], set()).add(metadata["stage"].upper())
    images = []
    for image, used in sorted(stages.items()):
        kind = "SIFImage" if image.endswith(".sif") else "DockerImage"
        entity = {
            "@id": f"#image-{Path(image).name}",
            "@type": "ContainerImage",
            "additionalType": {"@id": IMAGE_TYPES + kind},
            "name": image,
            "description": f"of {', '.join(sorted(used))}",
        }
        digest = sha256.get(Path(image).name) or image.partition("@sha256:")[2]
        images.append({**entity, "sha256": digest} if digest else entity)
    return images

"""Pushes built images to a registry: the OCI image, the SIF, the bill of materials and signatures of both.

`publish.py --registry HOST[:PORT][/PATH] [--key PRIVATE.pem] [--release] [NAME...]`.  The key is an ECDSA one (docs/how-to/containers.md).
What was pushed is written to build/containers/published.json; --release writes its digests into containers/images.json too.
"""

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from images import BUILT, FOLDER, Image, ImageError, read_images, sha256

SIGNATURE = "application/vnd.dev.cosign.simplesigning.v1+json"
CYCLONEDX = "application/vnd.cyclonedx+json"


def run(command: Sequence[str | Path], stdin: bytes | None = None) -> bytes:
    """A tool's standard output; raises ImageError with what it said."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin, capture_output=True, check=False)
    if done.returncode != 0:
        raise ImageError(f"{' '.join(words[:3])} ended with {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout


def is_loopback(registry: str) -> bool:
    """Whether a registry is on this machine: it is spoken to without TLS."""
    return registry.split("/")[0].split(":")[0] in ("localhost", "127.0.0.1")


def push_artifact(content: bytes, media_type: str, target: str, notes: Mapping[str, str], tls: bool) -> None:
    """Push one file as an OCI artifact of one layer to ``target`` (registry/name:tag)."""
    with tempfile.TemporaryDirectory() as folder:
        layout = Path(folder)
        (layout / "blobs/sha256").mkdir(parents=True)

        def blob(data: bytes, kind: str, **more: Any) -> dict[str, Any]:
            digest = hashlib.sha256(data).hexdigest()
            (layout / "blobs/sha256" / digest).write_bytes(data)
            return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data), **more}

        layer = blob(content, media_type, annotations=dict(notes))
        empty = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        config = blob(json.dumps(empty).encode(), "application/vnd.oci.image.config.v1+json")
        kind = "application/vnd.oci.image.manifest.v1+json"
        manifest = blob(json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}).encode(), kind)
        (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
        (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        run(["skopeo", "copy", "-q", f"--dest-tls-verify={str(tls).lower()}", f"oci:{layout}", f"docker://{target}"])


def signed_payload(reference: str, digest: str, key: Path) -> tuple[bytes, str]:
    """What sigstore's tools and podman's policy check: the payload that names an image's digest, and its signature."""
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": reference}, "image": image, "type": "cosign container image signature"}
    payload = json.dumps({"critical": critical, "optional": {}}).encode()
    return payload, base64.b64encode(run(["openssl", "dgst", "-sha256", "-sign", key], payload)).decode()


def publish(image: Image, entry: Mapping[str, Any], registry: str, key: Path | None) -> dict[str, Any]:
    """Push all that belongs to an image; its references and digests."""
    oci, sif, bill = (BUILT / f"{image.stem}.{ending}" for ending in ("oci.tar", "sif", "cdx.json"))
    for path in (oci, sif, bill):
        if not path.is_file():
            raise ImageError(f"{path}: no such file; build it first: make containers NAME={image.name}")
    if sha256(sif) != entry["sif_sha256"]:
        raise ImageError(f"{sif}: its SHA-256 is not the recorded one; build it again")
    tls, name = not is_loopback(registry), f"{registry}/{image.name}"
    with tempfile.TemporaryDirectory(dir=BUILT) as folder:
        digest_file, pushed_sif = Path(folder) / "digest", Path(folder) / sif.name
        options: list[str | Path] = [
            "-q",
            "--preserve-digests",
            f"--dest-tls-verify={str(tls).lower()}",
            "--digestfile",
            digest_file,
        ]
        run(["skopeo", "copy", *options, f"oci-archive:{oci}", f"docker://{name}:{image.version}"])
        digest = digest_file.read_text().strip()
        if digest != entry["oci_digest"]:
            raise ImageError(f"{name}: the registry has {digest}, but {entry['oci_digest']} was built")
        beside = f"{name}:{digest.replace(':', '-')}"
        push_artifact(bill.read_bytes(), CYCLONEDX, f"{beside}.sbom", {}, tls)
        shutil.copyfile(sif, pushed_sif)
        if key:
            payload, signature = signed_payload(f"{name}:{image.version}", digest, key)
            push_artifact(payload, SIGNATURE, f"{beside}.sig", {"dev.cosignproject.cosign/signature": signature}, tls)
            run(["apptainer", "-q", "sign", "--key", key, pushed_sif])
        plain = [] if tls else ["--no-https"]
        oras = f"oras://{name}-sif:{image.version}"
        run(["apptainer", "-q", "push", "-U", *plain, pushed_sif, oras])
        return {
            "version": image.version,
            "oci": f"{name}@{digest}",
            "oci_digest": digest,
            "sif": oras,
            "sif_sha256": sha256(pushed_sif),
            "sbom": f"{beside}.sbom",
            "signed": key is not None,
        }


def record(published: Mapping[str, Mapping[str, Any]], release: bool) -> None:
    """Write build/containers/published.json and, for a release, the digests into containers/images.json."""
    table = BUILT / "published.json"
    known = json.loads(table.read_text()) if table.is_file() else {}
    table.write_text(json.dumps({**known, **published}, indent=1) + "\n")
    if release:
        entries = json.loads((FOLDER / "images.json").read_text())
        for name, facts in published.items():
            entries[name] |= {field: facts[field] for field in ("oci_digest", "sif_sha256")}
        (FOLDER / "images.json").write_text(json.dumps(entries, indent=2) + "\n")


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", required=True)
    parser.add_argument("--key", default="")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("names", nargs="*")
    asked = parser.parse_args()
    try:
        if not asked.registry:
            raise ImageError("no registry; make publish REGISTRY=host:port/path was expected")
        if asked.key and not Path(asked.key).is_file():
            raise ImageError(f"{asked.key}: no such key; an ECDSA private key in PEM was expected")
        table = BUILT / "images.json"
        built = json.loads(table.read_text()) if table.is_file() else {}
        names = asked.names or sorted(built)
        missing = [name for name in names if name not in built]
        if missing or not names:
            raise ImageError(f"nothing built of {' '.join(missing) or 'any image'}; make containers comes first")
        published = {}
        for image in read_images(" ".join(names)):
            published[image.name] = publish(image, built[image.name], asked.registry, Path(asked.key) if asked.key else None)
            print(json.dumps(published[image.name]), flush=True)
        record(published, asked.release)
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

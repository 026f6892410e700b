"""Verifies a pushed OCI image: its signature with a public key, by skopeo and openssl alone.

`verify.py REGISTRY/NAME:VERSION PUBLIC.pem` prints the verified reference by digest.  The signature is in the form of sigstore's
tools, without a transparency log.
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

from images import ImageError
from publish import SIGNATURE, is_loopback, run


def verified_reference(reference: str, key: Path) -> str:
    """``registry/name@sha256:...`` of a tag (or digest); raises ImageError where the key's owner did not sign that image."""
    name = reference.split("@")[0]
    if ":" in name.rsplit("/", 1)[-1]:
        name = name.rsplit(":", 1)[0]
    tls = f"--tls-verify={str(not is_loopback(reference)).lower()}"
    digest = run(["skopeo", "inspect", tls, "--format", "{{.Digest}}", f"docker://{reference}"]).decode().strip()
    with tempfile.TemporaryDirectory() as folder:
        layout = Path(folder)
        signature_tag = f"docker://{name}:{digest.replace(':', '-')}.sig"
        run(["skopeo", "copy", "-q", f"--src-{tls[2:]}", signature_tag, f"dir:{layout}/signature"])
        manifest = json.loads((layout / "signature/manifest.json").read_text())
        for layer in manifest["layers"]:
            if layer["mediaType"] != SIGNATURE:
                continue
            payload = (layout / "signature" / layer["digest"].removeprefix("sha256:")).read_bytes()
            (layout / "signed").write_bytes(base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]))
            try:
                run(["openssl", "dgst", "-sha256", "-verify", key, "-signature", layout / "signed"], payload)
            except ImageError:
                continue
            if json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == digest:
                return f"{name}@{digest}"
    raise ImageError(f"{reference}: {digest} bears no signature of the key {key}")


def main() -> int:
    """Command line."""
    if len(sys.argv) != 3:
        print("usage: verify.py REGISTRY/NAME:VERSION PUBLIC.pem", file=sys.stderr)
        return 2
    try:
        print(verified_reference(sys.argv[1], Path(sys.argv[2])))
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

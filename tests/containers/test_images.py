"""Images as they are built, pushed, pulled, verified and run, on the smallest of them, with a registry on this machine.

`make containers NAME=tetris` builds it beforehand; where it has not been, the first test does.
"""

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from ..runs import Pipeline

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "containers"))

import build  # noqa: E402
import images  # noqa: E402
import publish  # noqa: E402
import verify  # noqa: E402

TOOLS = ("buildah", "skopeo", "apptainer", "mmdebstrap", "docker-registry", "openssl")
missing = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(bool(missing), reason=f"no {' '.join(missing)}; setup/container_tools.sh registry installs them"),
]
NAME = "tetris"


def build_py() -> str:
    done = subprocess.run([sys.executable, ROOT / "containers/build.py", NAME], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def image() -> images.Image:
    build_py()
    return images.read_images(NAME)[0]


@pytest.fixture(scope="module")
def shop() -> build.Workshop:
    return build.Workshop()


@pytest.fixture(scope="module")
def entry(image):
    return json.loads((images.BUILT / "images.json").read_text())[NAME]


def test_an_unchanged_image_is_not_built_again(image):
    assert build_py() == f"{image.stem}: unchanged\n"


def test_the_record_has_the_files_digests(image, entry):
    assert images.sha256(images.BUILT / f"{image.stem}.sif") == entry["sif_sha256"]
    bill = json.loads((images.BUILT / f"{image.stem}.cdx.json").read_text())
    addresses = {one["purl"].split("?")[0] for one in bill["components"]}
    assert f"pkg:pypi/template-learning@{image.version}" in addresses
    assert any(one.startswith("pkg:deb/debian/libc6@2.36") for one in addresses)


@pytest.fixture(scope="module")
def layers(image, tmp_path_factory):
    """The image's manifest, its configuration, and the layers' tar files, no longer compressed."""
    folder = tmp_path_factory.mktemp("oci")
    archive = f"oci-archive:{images.BUILT / image.stem}.oci.tar"
    subprocess.run(["skopeo", "copy", "-q", "--dest-decompress", archive, f"dir:{folder}"], check=True)

    def blob(one):
        return folder / one["digest"].removeprefix("sha256:")

    manifest = json.loads((folder / "manifest.json").read_text())
    return manifest, json.loads(blob(manifest["config"]).read_text()), [blob(one) for one in manifest["layers"]]


def test_annotations_and_user(image, entry, layers):
    manifest, config, _ = layers
    for held in (manifest["annotations"], config["config"]["Labels"]):
        said = {key.removeprefix("org.opencontainers.image."): value for key, value in held.items()}
        assert said["version"] == image.version
        assert said["licenses"] == image.licences
        assert said["base.digest"] == entry["base"]["digest"]
        assert len(said["revision"].split("-")[0]) == 40
    assert config["config"]["User"] == "1000:1000"


def test_no_layer_holds_what_only_the_build_may_see(layers):
    bundle = next((Path(one) for one in ("/etc/ssl/certs/ca-certificates.crt",) if Path(one).is_file()), None)
    own_mirror = {line.split()[1].encode() for line in build.debian_sources().splitlines()}
    secrets = ("run/site.list", "run/secrets/ca", "etc/pip.conf", "etc/apt/apt.conf.d/90site")
    seen = 0
    for layer in layers[2]:
        with tarfile.open(layer) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                seen += 1
                assert not (name in secrets and member.size), f"{name} lies in a layer"
                if member.isfile() and name.startswith(("etc/", "var/lib/apt", "var/log", "root/")):
                    content = archive.extractfile(member).read()
                    assert not any(address in content for address in own_mirror), f"{name} names this machine's mirror"
                    if bundle and name.endswith("ca-certificates.crt"):
                        assert member.size < bundle.stat().st_size or content != bundle.read_bytes()
    assert seen > 1000


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A registry on loopback: its address."""
    folder = tmp_path_factory.mktemp("registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(["docker-registry", "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"localhost:{port}/template-learning"
    finally:
        server.terminate()
        server.wait()


def key_pair(folder: Path) -> tuple[Path, Path]:
    """A private and a public key, as docs/how-to/containers.md makes them."""
    private, public = folder / "private.pem", folder / "public.pem"
    openssl = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private]
    subprocess.run(openssl, check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    return private, public


@pytest.fixture(scope="module")
def published(image, entry, registry, tmp_path_factory):
    """What was pushed, and the public key."""
    private, public = key_pair(tmp_path_factory.mktemp("key"))
    return publish.publish(image, entry, registry, private), public


def test_the_pushed_image_is_the_built_one_and_its_signature_is_verified(image, entry, registry, published, tmp_path):
    facts, public = published
    assert facts["oci"] == f"{registry}/{NAME}@{entry['oci_digest']}"
    for reference in (f"{registry}/{NAME}:{image.version}", facts["oci"]):
        assert verify.verified_reference(reference, public) == facts["oci"]
    with pytest.raises(images.ImageError, match="bears no signature of the key"):
        verify.verified_reference(facts["oci"], key_pair(tmp_path)[1])


def test_an_image_that_was_not_signed_is_refused(registry, published, tmp_path):
    _, public = published
    publish.push_artifact(b"{}", publish.CYCLONEDX, f"{registry}/{NAME}:other", {}, tls=False)
    with pytest.raises(images.ImageError):
        verify.verified_reference(f"{registry}/{NAME}:other", public)


def test_the_bill_of_materials_can_be_fetched(image, published, tmp_path):
    publish.run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{published[0]['sbom']}", f"dir:{tmp_path}/sbom"])
    layer = json.loads((tmp_path / "sbom/manifest.json").read_text())["layers"][0]
    fetched = (tmp_path / "sbom" / layer["digest"].removeprefix("sha256:")).read_bytes()
    assert fetched == (images.BUILT / f"{image.stem}.cdx.json").read_bytes()


@pytest.fixture
def folder(shop):
    """A folder that the building user may write, and a file's content there."""
    made = shop.folder("tmp/pulled")
    yield made
    shutil.rmtree(made)


def template_learning_in(shop: build.Workshop, sif: Path) -> str:
    return shop.run(
        ["apptainer", "-q", "exec", "--containall", "--no-home", "--pwd", "/", sif, "template-learning", "tetris", "--help"]
    )


def test_the_sif_is_pulled_verified_and_run(shop, folder, published):
    facts, public = published
    sif, key = folder / "pulled.sif", folder / "public.pem"
    shop.keep(key, public.read_text())
    shop.run(["apptainer", "-q", "pull", "--no-https", sif, facts["sif"]])
    assert images.sha256(sif) == facts["sif_sha256"]
    shop.run(["apptainer", "-q", "verify", "--key", key, sif])
    assert "--library" in template_learning_in(shop, sif)

    content = bytearray(sif.read_bytes())
    content[len(content) // 2] ^= 1
    sif.write_bytes(content)
    with pytest.raises(images.ImageError, match="verify"):
        shop.run(["apptainer", "-q", "verify", "--key", key, sif])


def test_the_oci_image_is_pulled_by_digest_and_run(shop, folder, published):
    sif = folder / "converted.sif"
    quick = ["--mksquashfs-args", "-noI -noD -noF -noX"]
    shop.run(["apptainer", "-q", "build", "--no-https", *quick, sif, f"docker://{published[0]['oci']}"])
    assert "--library" in template_learning_in(shop, sif)


def test_a_run_refuses_an_image_with_a_changed_byte(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    version = images.read_images("native")[0].version
    sif = folder / f"native-{version}.sif"
    sif.write_bytes(b"an image")
    sums = {"native": {"sif_sha256": hashlib.sha256(b"an image").hexdigest()}}
    (folder / "images.json").write_text(json.dumps(sums))
    sif.write_bytes(b"An image")

    run = Pipeline(tmp_path).run("-profile", "apptainer", "--image_folder", str(folder), "--templates", "none.cif")
    assert run.status != 0
    lines = [line for line in run.printed.splitlines() if "SHA-256" in line]
    assert len(lines) == 1, run.printed
    assert str(sif) in lines[0]
    assert sums["native"]["sif_sha256"] in lines[0]
    assert not list((tmp_path / "work").glob("??/*/.command.sh")), "no task was expected to start"

"""Builds images as an ordinary user: an OCI archive and, from that, a SIF, which is then tried.

An image is made in two steps.  Its own recipe puts packages on those of its parent (images.json), so that what several
images need is installed once; containers/Containerfile puts this package on them.  `build.py [NAME...]`.  Called as root it runs every tool as the user `template-builder`, which it makes.  Results lie in
build/containers/; what is kept between builds in TEMPLATE_LEARNING_IMAGE_CACHE (docs/how-to/containers.md).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from images import BUILT, FOLDER, ROOT, Image, ImageError, copied, read_images, sha256
from sbom import bill_of_materials

PUBLIC_BASE = "docker.io/library/debian:bookworm-slim"
BUILDER = "template-builder"
# As IMAGE_COMPRESSION says: options of `buildah push` and of mksquashfs.  gzip is read everywhere; zstd takes half the processor's
# time to make, and less to start from.
COMPRESSIONS = {
    "gzip": ([], "-Xcompression-level 4"),
    "zstd": (["--compression-format=zstd", "--compression-level=1"], "-comp zstd -Xcompression-level 3"),
}
# pip's settings as uv has them
UV_KEYS = {
    "index-url": ("index-url", "{}"),
    "extra-index-url": ("extra-index-url", "[{}]"),
    "trusted-host": ("allow-insecure-host", "[{}]"),
}
PROXIES = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]


class Workshop:
    """Where images are made: the user that makes them, the folder that is kept, and the environment of every tool."""

    def __init__(self) -> None:
        """Make the user (root only) and the folders."""
        self.user = _ordinary_user() if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        default = Path(self.user.pw_dir) / ".cache/template-learning/containers"
        self.cache = Path(os.environ.get("TEMPLATE_LEARNING_IMAGE_CACHE", default)).resolve()
        for name in ("", "home", "run", "tmp", "finished"):
            self.folder(name)
        self.environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.cache / "home"),
            "XDG_RUNTIME_DIR": str(self.cache / "run"),
            "TMPDIR": str(self.cache / "tmp"),
            "LC_ALL": "C.UTF-8",
            "BUILDAH_ISOLATION": "chroot",
            "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "overlay"),
            "APPTAINER_CACHEDIR": str(self.cache / "home/apptainer"),
            "APPTAINER_TMPDIR": str(self.cache / "tmp"),
            **{name: os.environ[name] for name in PROXIES},
        }

    def folder(self, name: str) -> Path:
        """A folder of the cache that belongs to the building user."""
        made = self.cache / name
        if not made.is_dir():
            made.mkdir(parents=True, mode=0o700 if name == "run" else 0o755)
            if os.geteuid() == 0:
                os.chown(made, self.user.pw_uid, self.user.pw_gid)
        return made

    def run(self, command: Sequence[str | Path], log: Path | None = None, stdin: str | None = None) -> str:
        """Run a tool as the ordinary user; its standard output.  With ``log`` all it says goes there."""
        words = [str(word) for word in command]
        identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            identity = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        with open(log, "a") if log else contextlib.nullcontext(subprocess.PIPE) as out:
            done = subprocess.run(
                words, env=self.environment, cwd=self.cache, input=stdin, stdout=out, check=False, text=True, **identity,
                stderr=subprocess.STDOUT if log else subprocess.PIPE,
            )  # fmt: skip
        if done.returncode != 0:
            said = log.read_text() if log else f"{done.stdout}{done.stderr}"
            raise ImageError(f"{' '.join(words[:3])} ended with {done.returncode}:\n" + "\n".join(said.splitlines()[-30:]))
        return done.stdout or ""

    @contextlib.contextmanager
    def alone(self, subject: str) -> Iterator[None]:
        """Wait until no other builder with this cache is at ``subject``."""
        with (self.cache / f"{subject}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def log(self, name: str) -> Path:
        """An empty file in ``tmp`` that the building user's tools write what they say into."""
        path = self.keep(self.folder("tmp") / name, "")
        if os.geteuid() == 0:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return path

    def keep(self, path: Path, text: str) -> Path:
        """Write a small file that the building user can read."""
        path.write_text(text)
        path.chmod(0o644)
        return path


def _ordinary_user() -> pwd.struct_passwd:
    if Path("/dev/fuse").exists():
        Path("/dev/fuse").chmod(0o666)
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(BUILDER)
    subprocess.run(["useradd", "-m", BUILDER], check=True)  # gives it a range of subordinate ids too
    return pwd.getpwnam(BUILDER)


def debian_sources() -> str:
    """The machine's own Debian bookworm mirrors as apt's one-line sources; empty where it has none."""
    if shutil.which("apt-get") is None:
        return ""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages", "Origin: Debian"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    pairs = [line.split() for line in dict.fromkeys(listed.splitlines())]
    components = "main contrib non-free non-free-firmware"
    return "".join(f"deb {site} {suite} {components}\n" for site, suite in pairs if suite.startswith("bookworm"))


def debian_image(shop: Workshop) -> dict[str, str]:
    """Reference, public name and digest of the Debian base: BASE, else the public image, else one made with mmdebstrap."""
    record = shop.cache / "base.json"
    asked = os.environ.get("BASE")
    if record.is_file():
        found: dict[str, str] = json.loads(record.read_text())
        if asked in (None, found["name"]):
            return found
    name = asked or PUBLIC_BASE
    with contextlib.suppress(ImageError):
        digest = shop.run(["timeout", "20", "skopeo", "inspect", "--format", "{{.Digest}}", f"docker://{name}"]).strip()
        return _recorded(shop, record, {"reference": f"{name.split(':')[0]}@{digest}", "name": name, "digest": digest})
    if asked:
        raise ImageError(f"BASE={asked}: no registry gives this image")
    sources = debian_sources()
    if not sources:
        raise ImageError(f"{PUBLIC_BASE} cannot be reached, and this machine has no Debian bookworm mirror to make a base from")
    print("base: no public registry can be reached; made with mmdebstrap", flush=True)
    tar = shop.folder("tmp") / "base.tar"
    shop.run(
        [
            "env",
            "TMPDIR=/var/tmp",  # its inner root is another user, who may not enter a home
            "mmdebstrap",
            "--variant=minbase",
            "--include=ca-certificates",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            '--aptopt=Acquire::Check-Valid-Until "false"',
            '--customize-hook=rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/*',  # the machine's own: the image names none
            "bookworm",
            tar,
            "-",
        ],
        stdin=sources,
    )
    reference = "localhost/debian:bookworm"
    container = shop.run(["buildah", "from", "scratch"]).strip()
    shop.run(["buildah", "add", "-q", container, tar, "/"])
    shop.run(["buildah", "config", "--cmd", "bash", container])
    shop.run(["buildah", "commit", "-q", "--rm", container, reference])
    tar.unlink()
    digest = shop.run(["buildah", "inspect", "--type", "image", "--format", "{{.FromImageDigest}}", reference]).strip()
    return _recorded(shop, record, {"reference": reference, "name": reference, "digest": digest})


def _recorded(shop: Workshop, record: Path, base: dict[str, str]) -> dict[str, str]:
    shop.keep(record, json.dumps(base) + "\n")
    return base


def build_arguments() -> list[str]:
    """The recipes' own arguments as BUILD_ARGS gives them: NAME=value, separated by blanks."""
    given = os.environ.get("BUILD_ARGS", "").split()
    for one in given:
        if not one.partition("=")[0].isidentifier() or "=" not in one:
            raise ImageError(f"BUILD_ARGS: {one!r}; NAME=value was expected")
    return given


def compression() -> str:
    """IMAGE_COMPRESSION, one of COMPRESSIONS."""
    asked = os.environ.get("IMAGE_COMPRESSION", "gzip")
    if asked not in COMPRESSIONS:
        raise ImageError(f"IMAGE_COMPRESSION: {asked!r}; {' or '.join(COMPRESSIONS)} was expected")
    return asked


def parent_of(name: str) -> str:
    """The image whose packages those of ``name`` are put on; Debian itself is "debian"."""
    return {"base": "debian", "tools": "base"}.get(name) or read_images(name)[0].parent


def packages_key(name: str, debian_digest: str) -> str:
    """SHA-256 of all that an image's packages are made from: recipe, files copied, the recipes' arguments, parent, tools."""
    if name == "debian":
        return debian_digest
    above = [parent_of(name)] + ([] if name in ("base", "tools") else ["tools"])
    recipe = FOLDER / name / "Containerfile"
    return _digest([*(packages_key(one, debian_digest) for one in above), *build_arguments()], [recipe, *copied(recipe)])


def key_of(image: Image, debian_digest: str) -> str:
    """SHA-256 of all that an image is made from and tried with."""
    last = FOLDER / "Containerfile"
    files = [FOLDER / "smoke.sh", image.recipe.parent / "smoke.sh", last, *copied(last)]
    return _digest([packages_key(image.name, debian_digest), image.version, compression()], files)


def _digest(words: Sequence[str], files: Sequence[Path]) -> str:
    digest = hashlib.sha256("\n".join([*words, ""]).encode())
    for path in files:
        mode = "x" if os.access(path, os.X_OK) else "-"
        digest.update(f"{path.relative_to(ROOT)}\n{mode}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _context(shop: Workshop, name: str, recipe: Path) -> Path:
    """A folder that holds what the recipe copies and nothing else."""
    context = shop.folder("tmp") / f"context-{name}"
    shutil.rmtree(context, ignore_errors=True)
    for path in [recipe, *copied(recipe)]:
        target = context / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    for folder in (context, *(one for one in context.rglob("*") if one.is_dir())):
        folder.chmod(0o755)
    return context


def _secrets(shop: Workshop) -> list[str]:
    """buildah's options for what a build may see but no layer may hold: mirror, CA bundle, Python index."""
    given: dict[str, Path] = {}
    pip, uv = [], []
    bundle = next(
        (os.environ[name] for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if os.environ.get(name)), None
    )
    if bundle and Path(bundle).is_file():
        given["ca"] = Path(bundle)
        pip.append("cert = /run/secrets/ca")
    if shutil.which("pip"):
        configured = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
        for key in ("index-url", "extra-index-url", "trusted-host"):
            for value in re.findall(rf"^(?:global|install|:env:)\.{key}='(.*)'$", configured, re.M):
                pip.append(f"{key} = {value}")
                uv.append(f"{UV_KEYS[key][0]} = {UV_KEYS[key][1].format(json.dumps(value))}")
    if pip:
        given["pip"] = shop.keep(shop.cache / "pip.conf", "[global]\n" + "\n".join(pip) + "\n")
    if uv:
        given["uv"] = shop.keep(shop.cache / "uv.toml", "\n".join(uv) + "\n")
    if sources := debian_sources():
        settings = 'Dir::Etc::SourceList "/run/site.list";\nDir::Etc::SourceParts "-";\nAcquire::Check-Valid-Until "false";\n'
        given["apt"] = shop.keep(shop.cache / "apt.conf", settings)
        given["sources"] = shop.keep(shop.cache / "site.list", sources)
    return [f"--secret=id={name},src={path}" for name, path in given.items()]


def _revision() -> str:
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    changed = subprocess.run(
        [*git, "status", "--porcelain", "containers", "python"], capture_output=True, text=True, check=False
    )
    return head + ("-changed" if changed.stdout.strip() else "")


def annotations(image: Image, debian: dict[str, str]) -> dict[str, str]:
    """The image's OCI annotations, which are its labels too."""
    named = {
        "title": f"template-learning {image.name}",
        "description": image.holds,
        "version": image.version,
        "revision": _revision(),
        "licenses": image.licences,
        "vendor": "The Template Learning developers",
        "base.name": debian["name"],
        "base.digest": debian["digest"],
    }
    return {f"org.opencontainers.image.{key}": value for key, value in named.items()}


def try_image(shop: Workshop, image: Image, sif: Path) -> None:
    """Run the smoke scripts in a SIF: nothing of the host but the kernel, no network, HOME unwritable, a uid of no one."""
    script = (FOLDER / "smoke.sh").read_text() + (FOLDER / image.name / "smoke.sh").read_text()
    stranger = ["unshare", "--user", "--map-user=54321", "--map-group=54321", "--net"]
    contained = ["apptainer", "-q", "exec", "--containall", "--no-home", "--pwd", "/", "--env", f"VERSION={image.version}"]
    shop.run([*contained, sif, *stranger, "bash", "-s"], stdin=script)  # the SIF's own unshare: Apptainer wants a user it knows


def build_recipe(
    shop: Workshop, name: str, recipe: Path, tag: str, arguments: Sequence[str], options: Sequence[str], log: Path | None
) -> None:
    """Have buildah make the image ``tag`` of a recipe."""
    context = _context(shop, name, recipe)
    layers = f"--layers={str(os.environ.get('LAYERS') == 'yes').lower()}"
    command = ["buildah", "build", layers, "--network=host", "--format=oci", "-t", tag]
    command += [f"--build-arg={argument}" for argument in (*arguments, *build_arguments())]
    shop.run([*command, *options, "-f", context / recipe.relative_to(ROOT), context], log)
    shutil.rmtree(context)


def packages(shop: Workshop, name: str, debian: dict[str, str], secrets: Sequence[str]) -> str:
    """The image of a recipe's packages in buildah's store, where it is kept; made if it is not there."""
    if name == "debian":
        return debian["reference"]
    kept = f"localhost/template-learning/packages-{name}"
    tag = f"{kept}:{packages_key(name, debian['digest'])[:16]}"
    with shop.alone(f"packages-{name}"):
        there = shop.run(["buildah", "images", "--format", "{{.Name}}:{{.Tag}}"]).split()
        if tag not in there:
            arguments = [f"BASE={packages(shop, parent_of(name), debian, secrets)}"]
            if name not in ("base", "tools"):
                arguments.append(f"TOOLS={packages(shop, 'tools', debian, secrets)}")
            start = time.monotonic()
            log = shop.log(f"packages-{name}.log")
            build_recipe(shop, f"packages-{name}", FOLDER / name / "Containerfile", tag, arguments, secrets, log)
            print(f"packages of {name}: {time.monotonic() - start:.0f} s", flush=True)
            for old in [one for one in there if one.startswith(f"{kept}:")]:
                with contextlib.suppress(ImageError):  # another build uses it
                    shop.run(["buildah", "rmi", old])
    return tag


def build(shop: Workshop, image: Image, debian: dict[str, str], secrets: Sequence[str]) -> dict[str, Any]:
    """Build an image unless the same one is there; its entry in build/containers/images.json."""
    key = key_of(image, debian["digest"])
    finished = shop.folder("finished") / image.name
    record = finished / "entry.json"
    entry: dict[str, Any] = json.loads(record.read_text()) if record.is_file() else {}
    if entry.get("key") == key:
        print(f"{image.stem}: unchanged", flush=True)
    else:
        print(f"{image.stem}: building", flush=True)
        entry = _make(shop, image, debian, key, secrets)
        shutil.rmtree(finished, ignore_errors=True)
        (shop.cache / "tmp" / image.name).rename(finished)
        seconds = ", ".join(f"{part} {value:.0f} s" for part, value in entry["seconds_of"].items())
        print(f"{image.stem}: {entry['seconds']:.0f} s ({seconds}), SIF of {entry['sif_bytes'] / 1e6:.0f} MB", flush=True)
    BUILT.mkdir(parents=True, exist_ok=True)
    for path in finished.glob(f"{image.stem}.*"):
        target = BUILT / path.name
        if not (target.is_file() and target.stat().st_mtime_ns == path.stat().st_mtime_ns):
            target.unlink(missing_ok=True)
            _link_or_copy(path, target)
    return entry


def _link_or_copy(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # another file system
        shutil.copy2(path, target)


def _make(shop: Workshop, image: Image, debian: dict[str, str], key: str, secrets: Sequence[str]) -> dict[str, Any]:
    start = time.monotonic()
    shutil.rmtree(shop.cache / "tmp" / image.name, ignore_errors=True)
    work = shop.folder(f"tmp/{image.name}")
    log = shop.log(f"{image.name}/build.log")
    oci, sif, tag = work / f"{image.stem}.oci.tar", work / f"{image.stem}.sif", f"localhost/template-learning/{image.name}"
    arguments = [
        f"{kind}={packages(shop, name, debian, secrets)}" for kind, name in (("PACKAGES", image.name), ("TOOLS", "tools"))
    ]
    installed = time.monotonic()
    notes = annotations(image, debian)
    options = [f"--{kind}={name}={value}" for name, value in notes.items() for kind in ("annotation", "label")]
    build_recipe(shop, image.name, FOLDER / "Containerfile", tag, arguments, options, log)
    layers, squash = COMPRESSIONS[compression()]
    shop.run(["buildah", "push", "-q", *layers, tag, f"oci-archive:{oci}:{image.name}:{image.version}"], log)
    shop.run(["buildah", "rmi", "-f", tag], log)  # the archive holds it: the store keeps the packages alone
    built = time.monotonic()
    shop.run(
        [
            "apptainer",
            "-q",
            "build",
            "--disable-cache",
            "--mksquashfs-args",
            squash,
            sif,
            f"oci-archive:{oci}",
        ],
        log,
    )
    squashed = time.monotonic()
    try_image(shop, image, sif)
    bill = bill_of_materials(
        image,
        shop.run(
            ["apptainer", "-q", "exec", "--containall", "--no-home", "--pwd", "/", sif, "python3", "-"], stdin=_inventory()
        ),
    )
    shop.keep(work / f"{image.stem}.cdx.json", json.dumps(bill, indent=1) + "\n")
    entry = {
        "version": image.version,
        "key": key,
        "oci_digest": shop.run(["skopeo", "inspect", "--format", "{{.Digest}}", f"oci-archive:{oci}"]).strip(),
        "sif_sha256": sha256(sif),
        "oci_bytes": oci.stat().st_size,
        "sif_bytes": sif.stat().st_size,
        "base": {"name": debian["name"], "digest": debian["digest"]},
        "revision": notes["org.opencontainers.image.revision"],
        "seconds": round(time.monotonic() - start, 1),
        "seconds_of": {
            "packages": round(installed - start, 1),
            "build": round(built - installed, 1),
            "sif": round(squashed - built, 1),
            "smoke": round(time.monotonic() - squashed, 1),
        },
    }
    shop.keep(work / "entry.json", json.dumps(entry, indent=1) + "\n")
    return entry


def _inventory() -> str:
    return (FOLDER / "inventory.py").read_text()


def build_and_record(shop: Workshop, image: Image, debian: dict[str, str], secrets: Sequence[str]) -> None:
    """Build an image unless the same one is there, and enter it in build/containers/images.json."""
    with shop.alone(image.name):
        entry = build(shop, image, debian, secrets)
    table = BUILT / "images.json"
    with shop.alone("images.json"):
        known = json.loads(table.read_text()) if table.is_file() else {}
        table.write_text(json.dumps({**known, image.name: entry}, indent=1) + "\n")


def main() -> int:
    """Build the images named, or all that CI builds."""
    try:
        names = " ".join(sys.argv[1:])
        images = [image for image in read_images(names) if names or image.ci]
        images.sort(key=lambda image: image.parent != "base")  # first those that need not wait for another's packages
        shop = Workshop()
        with shop.alone("base"):
            debian = debian_image(shop)
        secrets = _secrets(shop)  # once: its files must not change under a build that reads them
        # Two at a time: most of a build is one thread's work (unpacking, installing, writing layers)
        with ThreadPoolExecutor(2) as builders:
            making = [builders.submit(build_and_record, shop, image, debian, secrets) for image in images]
            try:
                for made in as_completed(making):
                    made.result()
            except BaseException:
                builders.shutdown(wait=False, cancel_futures=True)  # the one under way beside it is finished
                raise
    except FileNotFoundError as error:
        print(f"error: no program {error.filename}; setup/container_tools.sh installs what is missing", file=sys.stderr)
        return 2
    except ImageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
